/** Whether the server answers: one probe at a time, and one message for each change. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./modules.mjs";

const { createConnection } = await load("app/connection.js");
const { createStore } = await load("app/store.js");

const UNREACHABLE = Object.assign(new Error("The server does not answer."), { isUnreachable: true });

/** Return a connection whose probes end when the test says so. */
function build() {
  const probes = [];
  const store = createStore();
  let returns = 0;
  const probe = () => new Promise((succeed, fail) => probes.push({ succeed, fail }));
  const connection = createConnection(store, { onBack: () => (returns += 1), probe, retryMs: 1 });
  return { store, probes, report: connection.report, countReturns: () => returns };
}

async function wait(isDone) {
  const deadline = Date.now() + 5000;
  while (!isDone()) {
    assert.ok(Date.now() < deadline, "it did not happen in time");
    await new Promise((succeed) => setTimeout(succeed, 2));
  }
}

test("however many calls fail, there is one probe at a time", async () => {
  const { probes, report } = build();
  report(false);
  await wait(() => probes.length === 1);
  for (let number = 0; number < 5; number += 1) report(false);
  await new Promise((succeed) => setTimeout(succeed, 20));
  assert.equal(probes.length, 1);

  probes[0].fail(UNREACHABLE);
  await wait(() => probes.length === 2);
  await new Promise((succeed) => setTimeout(succeed, 20));

  assert.equal(probes.length, 2);
});

test("a server that answers with an error is back, and may be gone again", async () => {
  const { store, probes, report, countReturns } = build();
  for (const number of [1, 2]) {
    report(false);
    assert.equal(store.get().isConnected, false);
    await wait(() => probes.length === number);
    probes.at(-1).fail(new Error("Unauthorized."));
    await wait(() => store.get().isConnected);

    assert.equal(countReturns(), number);
  }
});
