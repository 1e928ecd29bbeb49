/** The picture of the selected photo, when the server is gone while it is loaded. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { load } from "./modules.mjs";

const { createPicture } = await load("app/picture.js");
const { buildEntry, createStore } = await load("app/store.js");

const { fetch: realFetch, createImageBitmap: realCreate } = globalThis;
let answers;
let asked;

beforeEach(() => {
  asked = 0;
  globalThis.sessionStorage = { getItem: () => "" };
  globalThis.createImageBitmap = async () => ({ width: 3, height: 2, close: () => {} });
  globalThis.fetch = async () => {
    asked += 1;
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
});
afterEach(() => {
  Object.assign(globalThis, { fetch: realFetch, createImageBitmap: realCreate });
});

/** Return a store whose one photo is a job that another page has submitted, and which still runs. */
function build() {
  const store = createStore();
  store.set({ entries: [buildEntry("one", { jobId: "one", state: "running" })] });
  const reports = [];
  return { store, reports, picture: createPicture(store, { report: (isConnected) => reports.push(isConnected) }) };
}

async function wait(isDone) {
  const deadline = Date.now() + 5000;
  while (!isDone()) {
    assert.ok(Date.now() < deadline, "it did not happen in time");
    await new Promise((succeed) => setTimeout(succeed, 2));
  }
}

test("a photo that could not be loaded is loaded when the server is back", async () => {
  const { store, reports, picture } = build();
  answers = [new TypeError("Failed to fetch"), new Response("photo")];
  await picture.select("one");
  const { photo, photoFault } = store.get().shown;

  picture.resume();

  assert.equal(photo, null);
  assert.match(photoFault, /could not be loaded/);
  assert.deepEqual(reports, [false]);
  await wait(() => store.get().shown.photo);
  assert.equal(store.get().shown.photoFault, null);
});

test("a photo that is not kept any more is not asked for again", async () => {
  const { store, reports, picture } = build();
  answers = [new Response(JSON.stringify({ error: "Gone.", error_type: "gone" }), { status: 410 })];
  await picture.select("one");

  picture.resume();

  assert.match(store.get().shown.photoFault, /not kept any more/);
  assert.deepEqual(reports, []);
  assert.equal(asked, 1);
});
