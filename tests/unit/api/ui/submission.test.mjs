/** Photos that are refused, canceled or sent again; nothing is sent here. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { load } from "./modules.mjs";

const { createStore } = await load("app/store.js");
const { createSubmission } = await load("app/submission.js");

const { createImageBitmap: realCreate, fetch: realFetch } = globalThis;
afterEach(() => {
  Object.assign(globalThis, { createImageBitmap: realCreate, fetch: realFetch });
});

test("a photo that is sent again keeps its thumbnail, and another one is not drawn", async () => {
  const drawn = [];
  globalThis.createImageBitmap = (file) => (drawn.push(file), Promise.reject(new Error("No browser.")));
  const store = createStore();
  // Until the server is back, nothing is sent.
  store.set({ isConnected: false });
  const submission = createSubmission(store, { report: () => {}, onSucceeded: () => {}, onFailed: () => {}, maxBytes: null });
  const [key] = submission.addFiles([new File(["photo"], "a.jpg", { type: "image/jpeg" })]);
  store.updateEntry(key, { state: "failed", thumbnail: "blob:a" });

  submission.retry(key);

  const [again] = store.get().entries;
  assert.notEqual(again.key, key);
  assert.deepEqual([again.state, again.thumbnail], ["waiting", "blob:a"]);
  await new Promise(setImmediate);
  assert.equal(drawn.length, 1);
});

test("that there will be no result is told of a file that is refused, and of a canceled upload", () => {
  globalThis.createImageBitmap = () => Promise.reject(new Error("No browser."));
  const store = createStore();
  store.set({ isConnected: false });
  const failed = [];
  const submission = createSubmission(store, { report: () => {}, onSucceeded: () => {}, onFailed: (key) => failed.push(key), maxBytes: null });
  const keys = submission.addFiles([new File([], "empty.jpg"), new File(["photo"], "a.jpg")]);
  assert.deepEqual(failed, [keys[0]]);

  submission.cancel(keys[1]);

  assert.deepEqual(failed, keys);
});

test("the jobs of another token are removed, and not followed any more; what was not sent stays", async () => {
  globalThis.createImageBitmap = () => Promise.reject(new Error("No browser."));
  globalThis.sessionStorage = { getItem: () => "" };
  const signals = [];
  const list = { jobs: [{ id: "one", state: "running", created_at: "2026-01-01T00:00:00Z", parameters: {} }], next_cursor: "more" };
  globalThis.fetch = async (address, { signal }) => {
    if (!address.endsWith("/events")) return new Response(JSON.stringify(list));
    signals.push(signal);
    return new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason)));
  };
  const store = createStore();
  store.set({ isConnected: false });
  const failed = [];
  const submission = createSubmission(store, { report: () => {}, onSucceeded: () => {}, onFailed: (key) => failed.push(key), maxBytes: null });
  await submission.loadRecent();
  const [key] = submission.addFiles([new File(["photo"], "a.jpg")]);

  submission.removeJobs();
  await new Promise((succeed) => setTimeout(succeed, 5));

  assert.deepEqual(store.get().entries.map((entry) => entry.key), [key]);
  assert.equal(store.get().nextCursor, null);
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
  assert.deepEqual(failed, []);
});
