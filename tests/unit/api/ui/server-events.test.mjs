/** The events of a job: the parser, and the way back after a cut. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { load } from "./modules.mjs";

const { createEventParser, followJob, reassignStreams } = await load("server-events.js");
const JOB = "0123456789abcdef0123456789abcdef";
const ENDED = { state: "succeeded" };

function parseAll(pieces) {
  const events = [];
  const parse = createEventParser((event) => events.push(event));
  for (const piece of pieces) parse(piece);
  return events;
}

const STREAM = 'retry: 1000\n\n: heartbeat\n\nid: 17\nevent: running\ndata: {"attempt":1}\n\nevent: position\ndata: {"position":2}\n\n';
const EVENTS = [
  { id: "17", name: "running", data: '{"attempt":1}' },
  { id: null, name: "position", data: '{"position":2}' },
];

test("a stream is the same whatever pieces it comes in", () => {
  for (let size = 1; size <= STREAM.length; size += 1) {
    const pieces = STREAM.match(new RegExp(`[^]{1,${size}}`, "g"));

    assert.deepEqual(parseAll(pieces), EVENTS);
  }
});

test("lines may end with a carriage return, and data may have several lines", () => {
  assert.deepEqual(parseAll(["event: a\r\ndata: 1\r\ndata:2\r\n\r\n"]), [{ id: null, name: "a", data: "1\n2" }]);
});

test("an event that is cut off is not told", () => {
  assert.deepEqual(parseAll(["event: running\ndata: {}\n"]), []);
});

let answers;
let asked;
const { fetch: realFetch, setTimeout: realSetTimeout } = globalThis;

beforeEach(() => {
  asked = [];
  // Pauses of seconds take twentieths of them.
  globalThis.setTimeout = (call, ms) => realSetTimeout(call, ms / 20);
  globalThis.sessionStorage = { getItem: () => "secret" };
  globalThis.fetch = async (address, { headers }) => {
    asked.push({ path: new URL(address).pathname.replace(/.*\/v1/, "/v1"), search: new URL(address).search, headers });
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
});
afterEach(() => {
  Object.assign(globalThis, { fetch: realFetch, setTimeout: realSetTimeout });
});

function stream(text) {
  return new Response(text, { headers: { "Content-Type": "text/event-stream" } });
}

function json(value, status = 200) {
  return new Response(JSON.stringify(value), { status });
}

async function follow(options = {}) {
  const told = [];
  const connections = [];
  const job = await followJob(JOB, { onEvent: (name) => told.push(name), onConnection: (one) => connections.push(one), ...options });
  return { told, connections, job };
}

test("after a cut the stream goes on behind the last event, with the token in a header alone", async () => {
  answers = [stream('id: 5\nevent: queued\ndata: {}\n\nid: 7\nevent: running\ndata: {}\n\n'), stream('id: 9-end\nevent: succeeded\ndata: {}\n\n'), json(ENDED)];

  const { told, job } = await follow();

  assert.deepEqual(told, ["queued", "running", "succeeded"]);
  assert.deepEqual(job, ENDED);
  assert.deepEqual(asked.map(({ headers }) => headers["Last-Event-ID"]), [undefined, "7", undefined]);
  assert.ok(asked.every(({ headers, search }) => headers.Authorization === "Bearer secret" && search === ""));
});

test("a server that is gone is told, and so is its return", async () => {
  answers = [new TypeError("Failed to fetch"), stream("event: succeeded\ndata: {}\n\n"), json(ENDED)];

  const { told, connections } = await follow();

  assert.deepEqual(told, ["succeeded"]);
  assert.deepEqual(connections, [false, true, true]);
});

test("where streams are refused, the job is polled", async () => {
  const refused = () => json({ error: "Too many.", error_type: "too_many_streams" }, 429);
  answers = [refused(), refused(), json({ state: "running" }), json(ENDED), json(ENDED)];

  const { told } = await follow();

  assert.deepEqual(told, ["running", "succeeded"]);
  assert.deepEqual(asked.map(({ path }) => path.endsWith("/events")), [true, true, false, false, false]);
});

test("that a job does not exist is not asked again", async () => {
  answers = [json({ error: "There is no such job.", error_type: "unknown_job" }, 404)];

  await assert.rejects(follow(), (error) => error.errorType === "unknown_job" && error.status === 404);

  assert.equal(asked.length, 1);
});

test("an end that was told before is read from the job", async () => {
  answers = [stream("id: 3\nevent: queued\ndata: {}\n\n"), new Response(null, { status: 204 }), json({ state: "canceled" }), json({ state: "canceled" })];

  const { told } = await follow();

  assert.deepEqual(told, ["queued", "canceled"]);
});

test("a job whose end cannot be read just then is asked for again, and has not failed", async () => {
  const busy = json({ error: "Too many requests.", error_type: "too_many_requests" }, 429);
  answers = [stream("event: succeeded\ndata: {}\n\n"), busy, new TypeError("Failed to fetch"), json(ENDED)];

  const { told, connections, job } = await follow();

  assert.deepEqual(told, ["succeeded"]);
  assert.deepEqual(connections, [true, false, true]);
  assert.deepEqual(job, ENDED);
});

test("of a deleted job nothing is asked", async () => {
  answers = [stream("event: deleted\ndata: {}\n\n")];

  const { told, job } = await follow();

  assert.deepEqual(told, ["deleted"]);
  assert.equal(job, null);
  assert.equal(asked.length, 1);
});

test("nothing listens to a signal any more after a job that was read in many pauses", async () => {
  const { signal } = new AbortController();
  let listeners = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args) => ((listeners += 1), add(...args));
  signal.removeEventListener = (...args) => ((listeners -= 1), remove(...args));
  answers = [stream("event: queued\ndata: {}\n\n"), stream("event: succeeded\ndata: {}\n\n"), json(ENDED)];

  await follow({ signal });

  assert.equal(listeners, 0);
});

/** Answer streams that never end but by their signal, and running jobs; return the paths that were asked for. */
function serveForEver() {
  const paths = [];
  globalThis.fetch = async (address, { signal }) => {
    const path = new URL(address).pathname;
    paths.push(path.replace(/.*\/jobs\//, ""));
    if (!path.endsWith("/events")) return json({ state: "running" });
    const end = (controller) => signal.addEventListener("abort", () => controller.error(signal.reason));
    return new Response(new ReadableStream({ start: end }));
  };
  return paths;
}

test("of many jobs a few have a stream, and the others hold no connection", async () => {
  const paths = serveForEver();
  const abort = new AbortController();
  const jobs = ["a", "b", "c", "d"].map((id) => followJob(id, { onEvent: () => {}, signal: abort.signal }));
  while (paths.length < 4) await new Promise((succeed) => setTimeout(succeed, 2));

  abort.abort();

  assert.deepEqual(paths, ["a/events", "b/events", "c", "d"]);
  assert.deepEqual((await Promise.allSettled(jobs)).map(({ reason }) => reason.name), Array(4).fill("AbortError"));
});

test("a stream that has ended leaves its place to another job", async () => {
  const paths = serveForEver();
  for (const id of ["a", "b", "c"]) {
    const abort = new AbortController();
    const job = followJob(id, { onEvent: () => {}, signal: abort.signal });
    abort.abort();
    await assert.rejects(job, { name: "AbortError" });
  }

  assert.deepEqual(paths, ["a/events", "b/events", "c/events"]);
});

/** Follow jobs until the test ends; return whose photo is looked at, what was asked for and told, and the streams that ended. */
function watchJobs(t, ids, selected = null) {
  const paths = serveForEver();
  const closed = [];
  const { fetch: answer } = globalThis;
  globalThis.fetch = (address, options) => {
    if (address.endsWith("/events")) options.signal.addEventListener("abort", () => closed.push(address.split("/").at(-2)));
    return answer(address, options);
  };
  const abort = new AbortController();
  const page = { selected };
  const connections = new Set();
  const options = { onEvent: () => {}, onConnection: (one) => connections.add(one), signal: abort.signal };
  const jobs = ids.map((id) => followJob(id, { ...options, isPreferred: () => page.selected === id }));
  t.after(async () => {
    abort.abort();
    await Promise.allSettled(jobs);
  });
  return { page, paths, closed, connections };
}

async function wait(isDone) {
  const deadline = Date.now() + 5000;
  while (!isDone()) {
    assert.ok(Date.now() < deadline, "it did not happen in time");
    await new Promise((succeed) => realSetTimeout(succeed, 2));
  }
}

test("the job that is looked at takes the stream of another, which is polled from then on", async (t) => {
  // Pauses never end by themselves here.
  globalThis.setTimeout = () => 0;
  const { page, paths, closed } = watchJobs(t, ["a", "b", "c", "d"]);
  await wait(() => paths.length === 4);

  page.selected = "d";
  reassignStreams();
  await wait(() => paths.includes("d/events"));

  assert.deepEqual(closed, ["a"]);
  page.selected = "b";
  reassignStreams();
  await new Promise(setImmediate);
  assert.deepEqual([closed, paths], [["a"], ["a/events", "b/events", "c", "d", "d/events"]]);
});

test("a job whose stream was given up is polled, and nothing says that the server is gone", async (t) => {
  const { page, paths, connections } = watchJobs(t, ["a", "b", "c"]);
  await wait(() => paths.length === 3);

  page.selected = "c";
  reassignStreams();

  await wait(() => paths.includes("a"));
  assert.ok(paths.indexOf("c/events") < paths.indexOf("a"));
  assert.deepEqual([...connections], [true]);
});

test("the job that is looked at has a stream from the start, however many are followed", async (t) => {
  const { paths } = watchJobs(t, ["a", "b", "c", "d"], "d");

  await wait(() => paths.length === 4);

  assert.deepEqual(paths, ["a/events", "b/events", "c", "d/events"]);
});
