/** Builds the page: the state, what changes it, and the view. */

import { callFile, callJson, readToken } from "../api.js";
import { reassignStreams } from "../server-events.js";
import { createComparison } from "./comparison.js";
import { createConnection } from "./connection.js";
import { copyPicture, saveCutOut } from "./export.js";
import { createFailures } from "./failures.js";
import { Page } from "./page.js";
import { adaptTo } from "./parameters.js";
import { createPicture, loadThumbnail } from "./picture.js";
import { PreviewSize } from "./preview-size.js";
import { filterSegments } from "./segments.js";
import { createStore, selectedEntry } from "./store.js";
import { createSubmission } from "./submission.js";
import { TokenButton } from "./token.js";
import { createTurns } from "./turns.js";
import { html, render } from "./view.js";

const store = createStore();
const maxBytes = Number(readFact("max-upload-bytes")) || null;
const connection = createConnection(store, { onBack: goOn });
const { report } = connection;
const { show: showFailure } = createFailures(store, { report });
const previews = new PreviewSize(() => viewer?.shownSide ?? 0);
const picture = createPicture(store, { report, showFailure, previews });
const submission = createSubmission(store, { report, maxBytes, onSucceeded: showResult, onFailed: (key) => comparison.endWithoutResult(key) });
const comparison = createComparison(store, { report, showFailure, previews, addFiles: submission.addFiles });
const takeTurn = createTurns();
let viewer = null;

/** Return what the service has written into the head of the page. */
function readFact(name) {
  return document.querySelector(`meta[name="maskmill-${name}"]`)?.content;
}

function goOn() {
  if (!store.get().isReady) load();
  submission.resume();
  picture.resume();
}

function showResult(key) {
  picture.showResult(key);
  comparison.showResult(key);
}

/** Read what the page needs of the service: its models and the recent jobs. */
async function load() {
  if (readFact("token") === "required" && !readToken()) return store.set({ isTokenNeeded: true });
  try {
    const { models, default: defaultModel } = await callJson("v1/models");
    const details = await Promise.all(models.map(({ id }) => callJson(`v1/models/${id}`).catch(() => ({ id }))));
    store.set({ models: details, defaultModel, isTokenNeeded: false });
    await submission.loadRecent();
    store.set({ isReady: true });
  } catch (error) {
    showFailure(error, load);
  }
}

/** Return the ids that a cut-out has: the isolated segment, or all that are shown; and a name for them. */
function selectForCutOut() {
  const { shown, isolated, list } = store.get();
  const segments = filterSegments(shown.segments, list.labels);
  const one = shown.segments.find(({ id }) => id === isolated);
  return { ids: one ? [one.id] : segments.map(({ id }) => id), label: one?.label ?? "" };
}

const actions = {
  addFiles(files) {
    const [first] = submission.addFiles(files);
    if (first) picture.select(first);
  },
  async addSample(address, name) {
    try {
      const blob = await callFile(address);
      actions.addFiles([new File([blob], name, { type: "image/jpeg" })]);
    } catch (error) {
      showFailure(error);
    }
  },
  select(key) {
    picture.select(key);
    reassignStreams();
  },
  retry: submission.retry,
  cancel: submission.cancel,
  loadMore: () => submission.loadRecent(store.get().nextCursor).catch((error) => showFailure(error, actions.loadMore)),
  loadThumbnail: (entry) => takeTurn(() => loadThumbnail(store, entry)).catch(() => {}),
  setStateFilter: (stateFilter) => store.set({ stateFilter }),
  setParameters(change) {
    if (store.get().comparison?.side === "right") comparison.setParameters(change);
    else picture.setParameters(change);
  },
  setModel(model) {
    store.set(({ models, settings }) => ({ model, settings: adaptTo(models.find(({ id }) => id === model), settings) }));
  },
  setLook: (change) => store.set(({ look }) => ({ look: { ...look, ...change } })),
  setList: (change) => store.set(({ list }) => ({ list: { ...list, ...change } })),
  highlight: (highlighted) => store.get().highlighted !== highlighted && store.set({ highlighted }),
  isolate: (isolated) => store.set({ isolated }),
  startComparison: comparison.start,
  stopComparison: comparison.stop,
  setPosition: comparison.setPosition,
  setSide: comparison.setSide,
  setComparedModel: comparison.setModel,
  holdViewer(next) {
    viewer = next;
  },
  viewer: () => viewer,
  async saveCutOut() {
    const { ids, label } = selectForCutOut();
    try {
      saveCutOut(await viewer.cutOut({ ids, crop: true }), selectedEntry(store.get()), label);
      store.set({ announcement: "The cut-out was saved." });
    } catch (error) {
      showFailure(error);
    }
  },
  async copyCutOut() {
    const { ids } = selectForCutOut();
    try {
      await copyPicture(viewer.cutOut({ ids, crop: true }));
      store.set({ announcement: "The cut-out is in the clipboard." });
    } catch (error) {
      showFailure(error);
    }
  },
  closeNotice: () => store.set({ notice: null }),
  closeToken: () => store.set({ isTokenNeeded: false }),
  useToken({ isChanged }) {
    if (isChanged) {
      if (selectedEntry(store.get())?.jobId) picture.select(null);
      submission.removeJobs();
    }
    store.set({ notice: null, isTokenNeeded: false });
    load();
  },
};

render(html`<${Page} store=${store} actions=${actions} />`, document.querySelector("#app"));
render(html`<${TokenButton} store=${store} actions=${actions} />`, document.querySelector("#top-end"));
load();
