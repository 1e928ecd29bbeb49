/** Photos that are refused, canceled or sent again; nothing is sent here. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { load } from "./modules.mjs";

const { createStore } = await load("app/store.js");
const { createSubmission } = await load("app/submission.js");

const { createImageBitmap: realCreate, fetch: realFetch, XMLHttpRequest: realRequest } = globalThis;
afterEach(() => {
  Object.assign(globalThis, { createImageBitmap: realCreate, fetch: realFetch, XMLHttpRequest: realRequest });
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

/** A service that answers an upload when the test says so; it returns the uploads and the other calls. */
function serveUploads() {
  const uploads = [];
  const calls = [];
  globalThis.createImageBitmap = () => Promise.reject(new Error("No browser."));
  globalThis.sessionStorage = { getItem: () => "" };
  globalThis.fetch = async (address, { method = "GET" }) => {
    calls.push(`${method} ${new URL(address).pathname.replace(/.*\/v1/, "/v1")}`);
    return new Response("{}");
  };
  globalThis.XMLHttpRequest = class {
    upload = {};
    open() {}
    setRequestHeader() {}
    getResponseHeader() {
      return null;
    }
    abort() {
      this.isAborted = true;
      this.onabort();
    }
    send() {
      uploads.push(this);
    }
    answer(status, body) {
      Object.assign(this, { status, responseText: JSON.stringify(body) });
      this.onload();
    }
  };
  return { uploads, calls };
}

async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

/** Add a photo of so many bytes, of which a share is sent, and cancel it. */
async function cancelUpload({ bytes, share }) {
  const { uploads, calls } = serveUploads();
  const store = createStore();
  const submission = createSubmission(store, { report: (isConnected) => store.set({ isConnected }), onSucceeded: () => {}, onFailed: () => {}, maxBytes: null });
  const [key] = submission.addFiles([new File([new Uint8Array(bytes)], "a.jpg")]);
  await settle();
  const [upload] = uploads;
  upload.upload.onprogress({ lengthComputable: true, loaded: share * bytes, total: bytes });
  await submission.cancel(key);
  assert.equal(store.get().entries[0].state, "canceled");
  return { store, submission, key, upload, calls };
}

test("an upload that is canceled on its way is ended", async () => {
  const { upload, calls } = await cancelUpload({ bytes: 4_000_000, share: 0.5 });

  await settle();

  assert.ok(upload.isAborted);
  assert.deepEqual(calls, []);
});

test("a photo that was canceled when all of it was sent does not become a job that nobody sees", async () => {
  const { store, upload, calls } = await cancelUpload({ bytes: 4_000_000, share: 1 });
  assert.ok(!upload.isAborted);

  upload.answer(202, { id: "one", state: "queued", parameters: {} });
  await settle();

  assert.deepEqual(calls, ["DELETE /v1/jobs/one"]);
  assert.deepEqual(store.get().entries.map(({ state, jobId }) => [state, jobId]), [["canceled", null]]);
});

test("of a photo that was canceled and then refused nothing is told", async () => {
  const { store, upload, calls } = await cancelUpload({ bytes: 1000, share: 0 });

  upload.answer(429, { error: "Full.", error_type: "queue_full" });
  await settle();

  assert.deepEqual(calls, []);
  assert.deepEqual(store.get().entries.map(({ state, error, repeatAt }) => [state, error, repeatAt]), [["canceled", null, null]]);
});

test("a canceled photo whose answer was lost is canceled under its own id once the server is back", async () => {
  const { store, submission, key, upload, calls } = await cancelUpload({ bytes: 1000, share: 1 });

  upload.onerror();
  await settle();
  assert.deepEqual([calls, store.get().isConnected], [[], false]);
  submission.resume();
  await settle();

  assert.deepEqual(calls, [`DELETE /v1/jobs/${key}`]);
});

test("so is one that is canceled while it waits to be sent again, as its first answer was lost", async () => {
  const { uploads, calls } = serveUploads();
  const store = createStore();
  const submission = createSubmission(store, { report: (isConnected) => store.set({ isConnected }), onSucceeded: () => {}, onFailed: () => {}, maxBytes: null });
  const [key] = submission.addFiles([new File(["photo"], "a.jpg")]);
  await settle();
  uploads[0].onerror();
  await settle();
  assert.equal(store.get().entries[0].state, "waiting");

  await submission.cancel(key);
  submission.resume();
  await settle();

  assert.deepEqual(calls, [`DELETE /v1/jobs/${key}`]);
  assert.equal(uploads.length, 1);
});
