/**
 * The events of a job, by a stream that is read with fetch: EventSource cannot send a token.
 *
 * After a cut the stream goes on behind the last event (`Last-Event-ID`).  Where streams do not come through, because a
 * proxy holds them back or the service has too many, the job is polled; so are jobs beside the few that have a stream.
 */

import { call, callJson } from "./api.js";
import { Follower, StreamPlaces } from "./streams.js";

export const FINAL_STATES = new Set(["succeeded", "failed", "canceled", "expired", "deleted"]);
const RECONNECT_MS = 1000;
const MAX_RECONNECT_MS = 10_000;
// The service sends something every ten seconds by default.
const SILENCE_MS = 30_000;
// Over HTTP/1.1 a browser has six connections to a service, of all its tabs.  Uploads, files and the request that cancels a
// job need some, and a stream of a job that waits holds one for as long.
const MAX_STREAMS = 2;
const [MIN_POLL_MS, MAX_POLL_MS, POLL_MS_OF_A_JOB] = [1000, 5000, 250];
const MAX_FAILED_STREAMS = 2;
// Why a stream was ended here: another job has its place now, or nothing came any more.
const [GIVEN_UP, SILENT] = ["given up", "silent"];
const places = new StreamPlaces(MAX_STREAMS);
const PERMANENT = new Set([400, 401, 403, 404, 410, 421]);

/** Return a function that takes pieces of a stream, and calls onEvent({ id, name, data }) for each whole event. */
export function createEventParser(onEvent) {
  let rest = "";
  let event = { id: null, name: "message", data: [] };

  function takeLine(line) {
    if (line === "") {
      if (event.data.length) onEvent({ id: event.id, name: event.name, data: event.data.join("\n") });
      event = { id: null, name: "message", data: [] };
      return;
    }
    const [field, value] = splitField(line);
    if (field === "id") event.id = value;
    else if (field === "event") event.name = value;
    else if (field === "data") event.data.push(value);
  }

  return (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) takeLine(line.endsWith("\r") ? line.slice(0, -1) : line);
  };
}

function splitField(line) {
  const colon = line.indexOf(":");
  if (colon < 0) return [line, ""];
  const value = line.slice(colon + 1);
  return [line.slice(0, colon), value.startsWith(" ") ? value.slice(1) : value];
}

/**
 * Tell what happens to a job until it has ended: onEvent(name, data).  Return the job then, or null if it was deleted.
 *
 * onConnection(isConnected) tells when the server is gone and when it is back.  isPreferred() tells whether a stream is of
 * more use to this job than to others; see reassignStreams().  Throws a ServiceError if the job cannot be read at all, and
 * an AbortError once `signal` is aborted.
 */
export async function followJob(id, { isPreferred = () => false, ...options }) {
  const follower = new Follower(isPreferred);
  places.add(follower);
  try {
    return await followToEnd(id, follower, options);
  } finally {
    places.remove(follower);
  }
}

/** Give a stream to the job that is preferred now. */
export function reassignStreams() {
  places.reassign();
}

async function followToEnd(id, follower, { onEvent, onConnection = () => {}, signal }) {
  const progress = { lastId: null, isEnded: false, isDeleted: false };
  const tell = (name, data) => {
    progress.isEnded ||= FINAL_STATES.has(name);
    progress.isDeleted ||= name === "deleted";
    onEvent(name, data);
  };
  for (let failed = 0; !progress.isDeleted; ) {
    try {
      // Within the loop: a server that is busy or gone just then is asked again.
      if (progress.isEnded) return await readEnd(id, onConnection, signal);
      const isStreamed = failed < MAX_FAILED_STREAMS && places.take(follower);
      if (isStreamed) await readStream(id, follower, progress, tell, signal);
      else await pollJob(id, tell, signal);
      onConnection(true);
      failed = failed < MAX_FAILED_STREAMS ? 0 : failed;
      if (!progress.isEnded) await pause(isStreamed ? RECONNECT_MS : choosePollMs(), signal, follower);
    } catch (error) {
      failed = handleFailure(error, failed, onConnection, signal);
      const ms = Math.max(RECONNECT_MS * 2 ** Math.min(failed - 1, 4), 1000 * (error.retryAfterSeconds ?? 0));
      await pause(Math.min(ms, MAX_RECONNECT_MS), signal);
    }
  }
  return null;
}

/** Return after how many milliseconds a job is polled again; all jobs together ask a few times a second. */
function choosePollMs() {
  return Math.min(MAX_POLL_MS, Math.max(MIN_POLL_MS, POLL_MS_OF_A_JOB * places.count));
}

async function readEnd(id, onConnection, signal) {
  const job = await callJson(`v1/jobs/${id}`, { signal });
  onConnection(true);
  return job;
}

/** Return how many attempts have failed now, or throw what no repetition mends. */
function handleFailure(error, failed, onConnection, signal) {
  if (signal?.aborted || PERMANENT.has(error.status)) throw error;
  // A server that is gone says nothing about streams: when it is back, they are tried again.
  if (error.isUnreachable) onConnection(false);
  return error.isUnreachable ? Math.min(failed + 1, MAX_FAILED_STREAMS - 1) : failed + 1;
}

async function readStream(id, follower, progress, tell, signal) {
  const own = new AbortController();
  follower.giveUp = () => own.abort(GIVEN_UP);
  let timer;
  const listenOn = () => {
    clearTimeout(timer);
    timer = setTimeout(() => own.abort(SILENT), SILENCE_MS);
  };
  listenOn();
  try {
    const response = await openStream(id, progress, signal ? AbortSignal.any([signal, own.signal]) : own.signal);
    if (response.status === 204) await tellPresent(id, tell, signal);
    else await readEvents(response, progress, tell, listenOn);
  } catch (error) {
    if (own.signal.reason !== GIVEN_UP) throw own.signal.aborted ? new Error("The stream is silent.") : error;
  } finally {
    places.leave(follower);
    clearTimeout(timer);
  }
}

async function readEvents(response, progress, tell, onPart) {
  const parse = createEventParser((event) => {
    if (event.id !== null) progress.lastId = event.id;
    tell(event.name, JSON.parse(event.data));
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    onPart();
    parse(part.value);
  }
}

function openStream(id, { lastId }, signal) {
  return call(`v1/jobs/${id}/events`, { headers: lastId ? { "Last-Event-ID": lastId } : {}, signal });
}

async function pollJob(id, tell, signal) {
  const job = await callJson(`v1/jobs/${id}`, { signal });
  if (job.queue_position) tell("position", { position: job.queue_position, eta: job.eta });
  tell(job.state, job);
}

/** Tell the state of a job whose end was told before. */
async function tellPresent(id, tell, signal) {
  const job = await callJson(`v1/jobs/${id}`, { signal });
  tell(job.state, job);
}

/** Wait; a follower may be woken before. */
function pause(ms, signal, follower = null) {
  return new Promise((succeed, fail) => {
    const end = () => fail(new DOMException("No longer of interest.", "AbortError"));
    if (signal?.aborted) return end();
    const abort = () => (clearTimeout(timer), end());
    const goOn = () => {
      clearTimeout(timer);
      // A job that is polled for hours would gather one at each pause.
      signal?.removeEventListener("abort", abort);
      follower?.endPause();
      succeed();
    };
    const timer = setTimeout(goOn, ms);
    signal?.addEventListener("abort", abort, { once: true });
    return follower?.whenWoken(goOn);
  });
}
