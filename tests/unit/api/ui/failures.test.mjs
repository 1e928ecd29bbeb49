/** What the service wants to have repeated later is repeated then, by itself; the size of previews follows the service. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { load } from "./modules.mjs";

const { ServiceError } = await load("api.js");
const { chooseRepeat, createFailures } = await load("app/failures.js");
const { PreviewSize } = await load("app/preview-size.js");
const { buildInitialState, createStore } = await load("app/store.js");
const { createSubmission } = await load("app/submission.js");
const { createTurns } = await load("app/turns.js");
const { describeState } = await load("app/words.js");

const BUSY = { status: 429, errorType: "queue_full", message: "The queue is full.", retryAfterSeconds: 3 };

function build() {
  const store = createStore(buildInitialState());
  const reports = [];
  const { show } = createFailures(store, { report: (isConnected) => reports.push(isConnected), now: () => 1000 });
  return { store, reports, show };
}

test("a call is repeated by itself if the service says when, and if somebody may wait for it", () => {
  const wait = (status, retryAfterSeconds) => chooseRepeat({ status, retryAfterSeconds });

  assert.ok(wait(429, 3) >= 3000 && wait(429, 3) < 4000);
  assert.ok(wait(503, 1) >= 1000);
  assert.ok(wait(429, 0) >= 0);
  for (const [status, seconds] of [[429, null], [429, undefined], [429, 86_400], [500, 3], [404, 3]]) assert.equal(wait(status, seconds), null);
});

test("a failure is shown until its call is made again", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { store, show } = build();
  const again = mock.fn();

  show(new ServiceError(BUSY), again);
  t.mock.timers.tick(2999);
  assert.equal(again.mock.callCount(), 0);
  assert.equal(store.get().notice.title, "The queue is full");
  assert.ok(store.get().notice.repeatAt >= 4000);
  t.mock.timers.tick(1000);

  assert.equal(again.mock.callCount(), 1);
  assert.equal(store.get().notice, null);
});

test("a newer failure stays when the call of an older one is repeated", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { store, show } = build();

  show(new ServiceError(BUSY), () => {});
  show(new ServiceError({ ...BUSY, status: 500, errorType: "unknown" }), () => assert.fail("it does not say when"));
  t.mock.timers.tick(100_000);

  assert.equal(store.get().notice.repeatAt, null);
});

test("a server that is gone, a call that was given up, and a wrong token are no notices", () => {
  const { store, reports, show } = build();

  show(new ServiceError({ status: 0, errorType: "unreachable", message: "" }));
  show(new DOMException("given up", "AbortError"));
  show(new ServiceError({ status: 401, errorType: "unauthorized", message: "" }));

  assert.deepEqual([reports, store.get().notice, store.get().isTokenNeeded], [[false], null, true]);
});

/** A service that answers uploads as the test says, in the order in which they come. */
function serve(t, answers) {
  const uploads = [];
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  globalThis.sessionStorage = { getItem: () => null };
  globalThis.fetch = () => new Promise(() => {});
  globalThis.XMLHttpRequest = class {
    upload = {};
    open(method, address) {
      this.key = `${method} ${new URL(address).pathname.replace(/.*\/v1/, "/v1")}`;
    }
    setRequestHeader() {}
    getResponseHeader(name) {
      return name === "Retry-After" ? this.retryAfter : null;
    }
    abort() {}
    send(file) {
      const [status, retryAfter, body] = answers[uploads.length] ?? [500, null, {}];
      uploads.push({ name: file.name, key: this.key });
      Object.assign(this, { status, retryAfter, responseText: JSON.stringify(body) });
      queueMicrotask(() => this.onload());
    }
  };
  return uploads;
}

async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

test("a photo that the service does not take now is sent again after its wait, and those behind it wait too", async (t) => {
  const job = { id: "j", state: "queued", parameters: {} };
  const uploads = serve(t, [[429, "5", { error: "Full.", error_type: "queue_full" }], [202, null, job], [202, null, job]]);
  const store = createStore(buildInitialState());
  const submission = createSubmission(store, { report: () => {}, onSucceeded: () => {}, onFailed: () => {}, maxBytes: null });

  submission.addFiles([new File(["x"], "first.jpg")]);
  await settle();
  submission.addFiles([new File(["x"], "second.jpg")]);
  await settle();
  const entry = store.get().entries.find(({ name }) => name === "first.jpg");
  assert.deepEqual([entry.state, entry.error.title, describeState(entry)], ["waiting", "The queue is full", "Waits for the service"]);
  assert.ok(entry.repeatAt >= 1_005_000);
  t.mock.timers.tick(4000);
  await settle();
  assert.deepEqual(uploads.map(({ name }) => name), ["first.jpg"]);
  t.mock.timers.tick(2000);
  await settle();

  assert.deepEqual(uploads.map(({ name }) => name), ["first.jpg", "first.jpg", "second.jpg"]);
  assert.match(uploads[0].key, /^PUT \/v1\/jobs\/page-[0-9a-f]{32}$/);
  assert.equal(uploads[0].key, uploads[1].key);
  const [again] = store.get().entries.filter(({ name }) => name === "first.jpg");
  assert.deepEqual([again.state, again.error, again.repeatAt], ["queued", null, null]);
});

test("a photo that is canceled while it waits is not sent", async (t) => {
  const uploads = serve(t, [[429, "5", { error: "Full.", error_type: "queue_full" }]]);
  const store = createStore(buildInitialState());
  const submission = createSubmission(store, { report: () => {}, onSucceeded: () => {}, onFailed: () => {}, maxBytes: null });

  const [key] = submission.addFiles([new File(["x"], "first.jpg")]);
  await settle();
  submission.cancel(key);
  t.mock.timers.tick(10_000);
  await settle();

  assert.equal(uploads.length, 1);
  assert.equal(store.get().entries[0].state, "canceled");
});

test("a preview is as large as it is shown, within bounds", () => {
  const choose = (shown) => new PreviewSize(() => shown).choose();

  assert.deepEqual([choose(700.2), choose(5000), choose(40), choose(0)], [701, 1024, 320, 1024]);
});

test("previews get smaller where they take long, and larger again where they do not", () => {
  const previews = new PreviewSize(() => 2000);
  for (let count = 0; count < 20; count += 1) previews.note(previews.choose(), 900);
  assert.equal(previews.choose(), 320);

  for (let count = 0; count < 20; count += 1) previews.note(previews.choose(), 40);
  assert.equal(previews.choose(), 1024);
});

test("one slow preview changes the size by a third at most, and a quick small one not at all", () => {
  const previews = new PreviewSize(() => 2000);

  previews.note(320, 10);
  assert.equal(previews.choose(), 1024);
  previews.note(1024, 60_000);
  assert.equal(previews.choose(), 717);
});

test("tasks run one after the other, and one that fails holds up nobody", async () => {
  const takeTurn = createTurns();
  const log = [];
  const task = (name) => async () => {
    log.push(`${name} begins`);
    await settle();
    log.push(`${name} ends`);
    if (name === "b") throw new Error("b");
    return name;
  };

  const results = await Promise.allSettled(["a", "b", "c"].map((name) => takeTurn(task(name))));

  assert.deepEqual(log, ["a", "b", "c"].flatMap((name) => [`${name} begins`, `${name} ends`]));
  assert.deepEqual(results.map(({ value }) => value), ["a", undefined, "c"]);
});
