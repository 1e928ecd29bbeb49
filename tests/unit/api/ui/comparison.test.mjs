/** A comparison with another model: what comes for one that has ended is not shown in the next one. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { load } from "./modules.mjs";

const { createComparison } = await load("app/comparison.js");
const { buildEntry, createStore } = await load("app/store.js");

const realFetch = globalThis.fetch;
let asked;

beforeEach(() => {
  asked = [];
  globalThis.sessionStorage = { getItem: () => "" };
  globalThis.fetch = (address) => new Promise((succeed) => asked.push({ path: new URL(address).pathname, succeed }));
});
afterEach(() => {
  globalThis.fetch = realFetch;
});

function show(store, key) {
  const labels = { width: 2, height: 1, ids: new Uint8Array(2) };
  store.set({ selectedKey: key, comparison: null, shown: { labels, segments: [], parameters: {}, size: labels } });
  return labels;
}

/** Return a store with two photos, and a comparison whose submissions are noted. */
function build({ file }) {
  const store = createStore();
  const entries = ["one", "other"].map((key) => buildEntry(key, { jobId: key, model: "a", file, state: "succeeded" }));
  store.set({ entries });
  const added = [];
  const addFiles = (files, { model }) => {
    const key = `new ${added.push(model)}`;
    store.set((state) => ({ entries: [buildEntry(key, { jobId: key, model }), ...state.entries] }));
    return [key];
  };
  return { store, added, comparison: createComparison(store, { report: () => {}, addFiles }) };
}

test("the result of another model is not shown beside another photo", async () => {
  const { store, added, comparison } = build({ file: new Blob(["photo"]) });
  show(store, "one");
  comparison.start();
  await comparison.setModel("b");
  const labels = show(store, "other");
  comparison.start();

  await comparison.showResult("new 1");

  assert.deepEqual(added, ["b"]);
  assert.deepEqual(asked, []);
  assert.equal(store.get().comparison.labels, labels);
});

test("the result of another model is read while its comparison is shown", async () => {
  const { store, comparison } = build({ file: new Blob(["photo"]) });
  show(store, "one");
  comparison.start();
  await comparison.setModel("b");

  comparison.showResult("new 1");

  assert.equal(store.get().comparison.isBusy, true);
  assert.deepEqual(asked.map(({ path }) => path.split("/").pop()), ["result", "labels.png"]);
});

test("a photo that arrives after the end of a comparison is not submitted", async () => {
  const { store, added, comparison } = build({ file: null });
  show(store, "one");
  comparison.start();
  const chosen = comparison.setModel("b");
  comparison.stop();

  asked[0].succeed(new Response("photo"));
  await chosen;

  assert.deepEqual(added, []);
});

test("of two models that are chosen, the last one is submitted", async () => {
  const { store, added, comparison } = build({ file: null });
  show(store, "one");
  comparison.start();
  const chosen = [comparison.setModel("b"), comparison.setModel("c")];

  for (const { succeed } of asked.reverse()) succeed(new Response("photo"));
  await Promise.all(chosen);

  assert.deepEqual(added, ["c"]);
});

test("a comparison does not wait for a model whose job has failed", async () => {
  const { store, comparison } = build({ file: new Blob(["photo"]) });
  show(store, "one");
  comparison.start();
  await comparison.setModel("b");
  const error = { title: "The queue is full", detail: "", advice: "Wait a moment, then try again.", waitSeconds: null };
  store.updateEntry("new 1", { state: "failed", error });

  comparison.endWithoutResult("new 1");

  assert.equal(store.get().comparison.isBusy, false);
  assert.equal(store.get().notice, error);
});
