/** Recuts while a slider moves: the newest wins, one call at a time, the full size at rest. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./modules.mjs";

const { RecutQueue } = await load("app/recut.js");

/** A queue whose calls end when the test says so. */
function build(options = {}) {
  const calls = [];
  const shown = [];
  const failures = [];
  const busy = [];
  const send = (parameters, { isPreview, signal }) =>
    new Promise((succeed, fail) => {
      calls.push({ parameters, isPreview, signal, succeed, fail });
      signal.addEventListener("abort", () => fail(new DOMException("stopped", "AbortError")));
    });
  const show = (answer, parameters, { isPreview }) => shown.push([answer, isPreview]);
  const queue = new RecutQueue({ send, show, fail: (error) => failures.push(error), onBusy: (one) => busy.push(one), restMs: 5, ...options });
  return { queue, calls, shown, failures, busy };
}

async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

async function wait(isDone) {
  const deadline = Date.now() + 5000;
  while (!isDone()) {
    assert.ok(Date.now() < deadline, "it did not happen in time");
    await new Promise((succeed) => setTimeout(succeed, 2));
  }
}

test("of many settings the first and the newest are sent, one at a time", async () => {
  const { queue, calls, shown } = build();

  for (const value of [1, 2, 3, 4, 5]) queue.request(value);
  assert.deepEqual(calls.map(({ parameters }) => parameters), [1]);
  calls[0].succeed("one");
  await settle();

  assert.deepEqual(calls.map(({ parameters }) => parameters), [1, 5]);
  calls[1].succeed("five");
  await settle();
  assert.deepEqual(shown, [["one", true], ["five", true]]);
});

test("at rest the full size of the newest setting follows its preview", async () => {
  const { queue, calls, shown, busy } = build();

  queue.request(1);
  calls[0].succeed("preview");
  await wait(() => calls.length === 2);

  assert.equal(calls[1].isPreview, false);
  assert.equal(calls[1].parameters, 1);
  calls[1].succeed("full");
  await settle();
  assert.deepEqual(shown.at(-1), ["full", false]);
  assert.deepEqual(busy, [true, false, true, false]);
});

test("a small photo has no preview", async () => {
  const { queue, calls } = build({ needsPreview: () => false });

  queue.request(1);

  assert.equal(calls[0].isPreview, false);
});

test("a new setting ends the call for the full size of an old one, whose answer is not shown", async () => {
  const { queue, calls, shown, failures } = build();
  queue.request(1);
  calls[0].succeed("preview");
  await wait(() => calls.length === 2);

  queue.request(2);
  await settle();

  assert.ok(calls[1].signal.aborted);
  assert.deepEqual(calls.map(({ parameters, isPreview }) => [parameters, isPreview]), [[1, true], [1, false], [2, true]]);
  calls[2].succeed("newer");
  await settle();
  assert.deepEqual(shown, [["preview", true], ["newer", true]]);
  assert.deepEqual(failures, []);
});

test("a failure is told once nothing newer is wanted, and the next setting is sent", async () => {
  const { queue, calls, failures } = build();
  queue.request(1);
  queue.request(2);

  calls[0].fail(new Error("first"));
  await settle();
  assert.deepEqual(failures, []);
  calls[1].fail(new Error("second"));
  await settle();

  assert.deepEqual(failures.map(({ message }) => message), ["second"]);
  queue.request(3);
  assert.equal(calls[2].parameters, 3);
});

test("after the end nothing is shown or sent", async () => {
  const { queue, calls, shown, failures } = build();
  queue.request(1);

  queue.close();
  calls[0].succeed("late");
  await settle();
  queue.request(2);

  assert.deepEqual([calls.length, shown, failures], [1, [], []]);
});
