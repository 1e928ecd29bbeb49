/** What the picture shows: the photo of the selected entry, its result, and the recuts that the sliders ask for. */

import { call, callFile, callJson } from "../api.js";
import { decodeLabels } from "../viewer/labels.js";
import { colorSegments } from "../viewer/colors.js";
import { chooseRepeat } from "./failures.js";
import { createRecutter } from "./recutting.js";
import { findMatch } from "./segments.js";
import { findEntry, selectedEntry } from "./store.js";
import { drawLabelThumbnail } from "./thumbnails.js";

const RELEASE_MS = 1000;
const NOT_LOADED = "The photo could not be loaded; the segments are shown without it.";

/**
 * @param report (isConnected) notes whether the server answered
 * @param showFailure (error, again) tells a failure
 * @param previews PreviewSize of the page
 */
export function createPicture(store, { report, showFailure, previews }) {
  let recutter = null;
  // Of the present selection; aborted by the next, so that what comes late is dropped.
  let selection = new AbortController();

  /** Show a photo, and its result as soon as there is one. */
  async function select(key) {
    if (store.get().selectedKey === key) return;
    selection.abort();
    selection = new AbortController();
    const { signal } = selection;
    recutter?.close();
    recutter = null;
    release(store.get().shown?.photo);
    const reset = { shown: null, comparison: null, isolated: null, highlighted: null };
    store.set(({ list }) => ({ selectedKey: key, ...reset, list: { ...list, labels: new Set() } }));
    const entry = findEntry(store.get(), key);
    if (!entry) return;
    await Promise.all([loadPhoto(entry, signal), entry.state === "succeeded" ? loadResult(entry, signal) : null]);
  }

  async function loadPhoto(entry, signal) {
    let photo = null;
    let photoFault = null;
    try {
      const file = entry.file ?? (await callFile(`v1/jobs/${entry.jobId}/input`, { signal }));
      photo = await createImageBitmap(file, { imageOrientation: "from-image" });
    } catch (error) {
      photoFault = describePhotoFault(error);
      if (error.isUnreachable) report(false);
    }
    if (signal.aborted) return photo?.close();
    const size = photo ? { width: photo.width, height: photo.height } : null;
    store.set(({ shown }) => ({ shown: { ...shown, photo, photoFault, size: size ?? shown?.size ?? entry.image } }));
  }

  /** Called when a job has succeeded. */
  async function showResult(key) {
    const entry = findEntry(store.get(), key);
    if (store.get().selectedKey === key) await loadResult(entry, selection.signal);
  }

  async function loadResult(entry, signal) {
    try {
      const [result, file] = await Promise.all([
        callJson(`v1/jobs/${entry.jobId}/result`, { signal }),
        callFile(`v1/jobs/${entry.jobId}/labels.png`, { signal }),
      ]);
      const labels = await decodeLabels(file);
      if (signal.aborted) return;
      report(true);
      // The end of a job and the return of the server may both have loaded it.
      recutter?.close();
      recutter = createRecutter(entry.jobId, labels, { previews, show: showRecut, fail: refuseRecut, onBusy });
      applyResult(labels, result.segments, entry.parameters, { isPreview: false });
    } catch (error) {
      if (!signal.aborted) showFailure(error, () => signal.aborted || loadResult(entry, signal));
    }
  }

  function applyResult(labels, segments, parameters, { isPreview }) {
    const before = store.get();
    const colored = colorSegments(segments);
    const isolated = keepIsolated(before, labels, colored);
    store.set(({ shown }) => ({
      shown: { ...shown, labels, segments: colored, parameters, isPreview, size: shown?.size ?? labels },
      isolated,
      highlighted: null,
    }));
    store.updateEntry(before.selectedKey, { parameters });
  }

  function showRecut(answer, parameters, { isPreview }) {
    report(true);
    applyResult(answer.labels, answer.segments, parameters, { isPreview });
    if (!isPreview) store.set({ announcement: describeCount(answer.segments.length) });
  }

  /** Go back to the setting that is shown, of which files can be made; but not from one that is asked for again. */
  function refuseRecut(error) {
    const { shown, selectedKey } = store.get();
    const { signal } = selection;
    if (!error.isUnreachable && chooseRepeat(error) === null) store.updateEntry(selectedKey, { parameters: shown.parameters });
    showFailure(error, () => signal.aborted || resume());
  }

  function onBusy(isBusy) {
    store.set(({ shown }) => ({ shown: shown && { ...shown, isBusy } }));
  }

  /** Use other parameters: for the shown result at once, and for the photos that are added next. */
  function setParameters(change) {
    const base = selectedEntry(store.get())?.parameters ?? store.get().settings;
    const parameters = { ...base, ...change };
    store.set({ settings: parameters });
    const entry = selectedEntry(store.get());
    if (!entry) return;
    if (recutter) {
      store.updateEntry(entry.key, { parameters });
      recutter.request(parameters);
    }
  }

  /** After the server was gone: load what could not be loaded, and show the present setting. */
  function resume() {
    const entry = selectedEntry(store.get());
    if (entry && store.get().shown?.photoFault === NOT_LOADED) loadPhoto(entry, selection.signal);
    if (entry?.state !== "succeeded") return;
    if (!recutter) loadResult(entry, selection.signal);
    else if (store.get().shown?.parameters !== entry.parameters) recutter.request(entry.parameters);
  }

  return { select, showResult, setParameters, resume };
}

/** Draw the thumbnail of a job of which the page has no photo, from its label map. */
export async function loadThumbnail(store, entry) {
  const [result, file] = await Promise.all([
    callJson(`v1/jobs/${entry.jobId}/result`),
    call(`v1/jobs/${entry.jobId}/labels.png`).then((response) => response.blob()),
  ]);
  const colors = new Map(colorSegments(result.segments).map(({ id, color }) => [id, color]));
  store.updateEntry(entry.key, await drawLabelThumbnail(await decodeLabels(file), (id) => colors.get(id) ?? [128, 128, 128]));
}

/** Free the memory of a photo, once the viewer has let go of it. */
function release(photo) {
  if (photo) setTimeout(() => photo.close(), RELEASE_MS);
}

function keepIsolated({ shown, isolated }, labels, segments) {
  const before = isolated && shown?.segments?.find(({ id }) => id === isolated);
  return before ? (findMatch(before, shown.labels, segments, labels)?.id ?? null) : null;
}

function describePhotoFault(error) {
  if (error.status === 410) return "The photo is not kept any more; its segments are.";
  if (error.name === "InvalidStateError") return "This browser cannot show files of this kind; the segments are shown without the photo.";
  return NOT_LOADED;
}

function describeCount(count) {
  return count === 1 ? "1 segment" : `${count} segments`;
}
