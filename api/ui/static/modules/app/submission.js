/** From files to jobs: checked, uploaded two at a time, followed until they have ended, repeated after a cut. */

import { call, callJson, upload } from "../api.js";
import { FINAL_STATES, followJob } from "../server-events.js";
import { explain, explainFailure, speak } from "../errors.js";
import { chooseRepeat } from "./failures.js";
import { findFault } from "./files.js";
import { buildQuery } from "./parameters.js";
import { buildEntry, findEntry, isUnderWay } from "./store.js";
import { drawThumbnail } from "./thumbnails.js";
import { createTurns } from "./turns.js";
import { createWithdrawals } from "./withdrawals.js";

const MAX_UPLOADS = 2;
const RECENT = 24;

/**
 * @param report (isConnected) notes whether the server answered
 * @param onSucceeded (key) is called when the result of a job is there
 * @param onFailed (key) is called when there will be none
 */
export function createSubmission(store, { report, onSucceeded, onFailed, maxBytes }) {
  const waiting = [];
  // By key: what ends an upload, or the following of a job.
  const controllers = new Map();
  // A photo of many megapixels has hundreds of megabytes while it is decoded.
  const takeTurn = createTurns();
  let uploads = 0;
  // While the service takes nothing.
  let pause = null;
  const withdrawals = createWithdrawals({ cancelJob, isConnected: () => store.get().isConnected });

  /** Add photos: the first is selected, and all are uploaded. */
  function addFiles(files, options = {}) {
    const { settings, model } = store.get();
    const common = { parameters: settings, model, ...options };
    const entries = [...files].map((file) => buildEntry(createKey(), { file, name: file.name, ...common }));
    if (!entries.length) return [];
    store.set((state) => ({ entries: [...entries, ...state.entries], announcement: describeAdded(entries) }));
    for (const entry of entries) enqueue(entry);
    return entries.map(({ key }) => key);
  }

  function enqueue(entry) {
    const fault = findFault(entry.file, { maxBytes });
    if (fault) return fail(entry.key, fault);
    // A photo that is sent again has one already.
    if (!entry.thumbnail) takeTurn(() => drawThumbnail(entry.file)).then((drawn) => keepThumbnail(entry.key, drawn), () => {});
    waiting.push(entry.key);
    startNext();
  }

  function keepThumbnail(key, drawn) {
    if (findEntry(store.get(), key)) store.updateEntry(key, drawn);
    else URL.revokeObjectURL(drawn.thumbnail);
  }

  /** The server is back. */
  function resume() {
    withdrawals.resume();
    startNext();
  }

  function startNext() {
    while (store.get().isConnected && !pause && uploads < MAX_UPLOADS && waiting.length) {
      const entry = findEntry(store.get(), waiting.shift());
      if (entry?.state === "waiting") send(entry);
    }
  }

  async function send(entry) {
    const { key } = entry;
    uploads += 1;
    const controller = open(key);
    store.updateEntry(key, { state: "uploading", progress: 0, error: null, repeatAt: null });
    try {
      const job = await upload(`v1/jobs/${key}?${buildSubmissionQuery(entry)}`, entry.file, {
        signal: controller.signal,
        onProgress: (progress) => store.updateEntry(key, { progress }),
      });
      report(true);
      if (withdrawals.settle(key, { job })) return;
      store.updateEntry(key, readJob(job));
      follow(key, job.id);
    } catch (error) {
      handleFailedUpload(key, error);
    } finally {
      uploads -= 1;
      startNext();
    }
  }

  function handleFailedUpload(key, error) {
    if (error.name === "AbortError") return;
    if (error.isUnreachable) report(false);
    if (withdrawals.settle(key, error)) return;
    if (error.isUnreachable) {
      // It is sent again once the server is back.
      store.updateEntry(key, { state: "waiting", progress: 0, error: explain(error) });
      waiting.push(key);
    } else if (chooseRepeat(error) === null) {
      fail(key, error);
    } else {
      delay(key, error);
    }
  }

  /** Send a photo again, and then those behind it, when the service takes them. */
  function delay(key, error) {
    const waitMs = chooseRepeat(error);
    const explanation = explain(error);
    const { name } = findEntry(store.get(), key);
    store.updateEntry(key, { state: "waiting", progress: 0, error: explanation, repeatAt: Date.now() + waitMs });
    store.set({ announcement: `${name}: ${speak(explanation)} This page sends it again by itself.` });
    waiting.unshift(key);
    clearTimeout(pause);
    pause = setTimeout(() => {
      pause = null;
      startNext();
    }, waitMs);
  }

  async function follow(key, jobId) {
    const controller = open(key);
    try {
      const job = await followJob(jobId, {
        signal: controller.signal,
        isPreferred: () => store.get().selectedKey === key,
        onConnection: report,
        onEvent: (name, data) => store.updateEntry(key, readEvent(findEntry(store.get(), key), name, data)),
      });
      if (job) end(key, job);
      else onFailed(key);
    } catch (error) {
      const waitMs = chooseRepeat(error);
      if (waitMs !== null) setTimeout(() => follow(key, jobId), waitMs);
      else if (!controller.signal.aborted) fail(key, error);
    }
  }

  /** Note the end of a job. */
  function end(key, job) {
    const entry = { ...findEntry(store.get(), key), ...readJob(job) };
    store.updateEntry(key, entry);
    store.set({ announcement: describeEnd(entry) });
    if (entry.state === "succeeded") onSucceeded(key);
    else onFailed(key);
  }

  function fail(key, error) {
    const explanation = explain(error);
    const entry = findEntry(store.get(), key);
    store.updateEntry(key, { state: "failed", error: explanation });
    store.set({ announcement: `${entry.name}: ${speak(explanation)}`, ...(error.status === 401 ? { isTokenNeeded: true } : {}) });
    onFailed(key);
  }

  /** Send a photo again whose submission or job has failed. */
  function retry(key) {
    const entry = findEntry(store.get(), key);
    if (!entry?.file) return;
    // Another key: the service would answer with the job that has failed.
    const again = buildEntry(createKey(), { ...pick(entry), file: entry.file });
    store.set((state) => ({
      entries: state.entries.map((one) => (one.key === key ? again : one)),
      selectedKey: state.selectedKey === key ? again.key : state.selectedKey,
    }));
    enqueue(again);
  }

  /** Stop an upload, or cancel a job that has not ended. */
  async function cancel(key) {
    const entry = findEntry(store.get(), key);
    if (!entry || !isUnderWay(entry)) return;
    if (!entry.jobId) {
      if (!withdrawals.add(entry)) controllers.get(key)?.abort();
      store.updateEntry(key, { state: "canceled", error: null, repeatAt: null });
      store.set({ announcement: `${entry.name} was canceled.` });
      onFailed(key);
      return;
    }
    await cancelJob(entry.jobId);
  }

  async function cancelJob(id) {
    try {
      await call(`v1/jobs/${id}`, { method: "DELETE" });
    } catch (error) {
      // It may have ended meanwhile, which its events tell, or it was never there.
      if (error.status !== 409 && error.status !== 404) store.set({ notice: explain(error), announcement: speak(explain(error)) });
    }
  }

  /** Read the newest jobs of this token, and follow those that have not ended. */
  async function loadRecent(cursor = null) {
    const page = await callJson(`v1/jobs?limit=${RECENT}${cursor ? `&cursor=${cursor}` : ""}`);
    const known = new Set(store.get().entries.flatMap(({ key, jobId }) => [key, jobId]));
    const found = page.jobs
      .filter((job) => !known.has(job.id) && !known.has(job.client_id))
      .map((job) => buildEntry(job.id, { ...readJob(job), name: readName(job), createdAt: Date.parse(job.created_at) }));
    store.set((state) => ({ entries: [...state.entries, ...found], nextCursor: page.next_cursor }));
    for (const entry of found.filter(isUnderWay)) follow(entry.key, entry.jobId);
  }

  /** Remove all jobs, because they are those of another token, whose photos are not to be seen; what was not sent stays. */
  function removeJobs() {
    const removed = store.get().entries.filter(({ jobId }) => jobId);
    store.set(({ entries }) => ({ entries: entries.filter(({ jobId }) => !jobId), nextCursor: null }));
    for (const { key, thumbnail } of removed) {
      controllers.get(key)?.abort();
      controllers.delete(key);
      if (thumbnail) URL.revokeObjectURL(thumbnail);
    }
  }

  function open(key) {
    const controller = new AbortController();
    controllers.set(key, controller);
    return controller;
  }

  return { addFiles, retry, cancel, loadRecent, removeJobs, resume };
}

/**
 * Return the id under which a photo is submitted.
 *
 * The service takes no 32 digits alone, as its own ids have; crypto.randomUUID() is missing where the page came over http
 * from another machine.
 */
function createKey() {
  const digits = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0"));
  return `page-${digits.join("")}`;
}

function buildSubmissionQuery(entry) {
  return buildQuery(entry.parameters, {
    formats: "labels",
    // The other kinds of segments are a switch of the page.
    recut: "semantic",
    metadata: JSON.stringify({ name: entry.name.slice(0, 200) }),
    model: entry.model,
  });
}

function pick({ name, model, parameters, thumbnail, image }) {
  return { name, model, parameters, thumbnail, image };
}

/** Return the members of an entry that a job tells. */
export function readJob(job) {
  return {
    jobId: job.id,
    state: job.state,
    model: job.model,
    links: job.links,
    position: job.queue_position ?? null,
    eta: job.eta ?? null,
    timings: job.timings_ms ?? {},
    parameters: job.parameters,
    jobParameters: job.parameters,
    ...(job.image ? { image: { width: job.image.width, height: job.image.height } } : {}),
    error: FINAL_STATES.has(job.state) && job.state !== "succeeded" ? explainFailure(job) : null,
    startedAt: job.started_at,
    endedAt: job.ended_at,
  };
}

/** Return the members of an entry that an event tells. */
export function readEvent(entry, name, data) {
  if (name === "position") return { position: data.position, eta: data.eta ?? null };
  if (name === "stage") return { state: "running", position: null, stages: [...(entry?.stages ?? []), { name: data.stage, at: Date.now() }] };
  if (name === "running") return { state: "running", position: null, eta: null, stages: [] };
  if (name === "requeued" || name === "queued") return { state: "queued", stages: [] };
  // The end is read from the job, which says all of it.
  return FINAL_STATES.has(name) && name !== "deleted" ? {} : { state: name };
}

function readName(job) {
  return typeof job.metadata?.name === "string" && job.metadata.name ? job.metadata.name : `Job ${job.id.slice(-6)}`;
}

function describeAdded(entries) {
  return entries.length === 1 ? `${entries[0].name} was added.` : `${entries.length} photos were added.`;
}

function describeEnd(entry) {
  if (entry.state === "succeeded") return `${entry.name} is done.`;
  if (entry.state === "canceled") return `${entry.name} was canceled.`;
  return `${entry.name}: ${speak(entry.error)}`;
}
