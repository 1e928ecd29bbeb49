/** Photos that are refused, canceled or sent again; nothing is sent here. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { load } from "./modules.mjs";

const { createStore } = await load("app/store.js");
const { createSubmission } = await load("app/submission.js");

const realCreate = globalThis.createImageBitmap;
afterEach(() => {
  globalThis.createImageBitmap = realCreate;
});

test("a photo that is sent again keeps its thumbnail, and another one is not drawn", () => {
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
