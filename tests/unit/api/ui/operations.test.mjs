// Figures of the page for operators: sums over models and minutes, axes, times in words, and delays of repeated calls.

import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./modules.mjs";

const { addMinutes, addUp, measureBacklog, rankErrors, roundUp } = await load("ops/activity.js");
const { formatAmount, formatDuration, formatFigure, spell } = await load("ops/words.js");
const { chooseDelay } = await load("ops/polling.js");

function minute(facts) {
  return { at: "2026-11-28T12:00:00Z", succeeded: 0, failed: 0, expired: 0, canceled: 0, images: 0, mean_batch_size: null, errors: {}, ...facts };
}

function model(minutes, queues = []) {
  return { last_hour: minutes, queues };
}

test("minutes of two models are added, and batch sizes are weighted by their images", () => {
  const one = model([minute({ images: 30, mean_batch_size: 3, failed: 1, errors: { not_an_image: 1 } }), minute({})]);
  const other = model([minute({ images: 10, mean_batch_size: 1, expired: 2, errors: { not_an_image: 1, expired: 2 } }), minute({})]);

  const [first, second] = addMinutes([one, other]);

  assert.deepEqual([first.images, first.batchSize, first.failed], [40, 2.5, 3]);
  assert.deepEqual(first.errors, { not_an_image: 2, expired: 2 });
  assert.equal(second.batchSize, null);
});

test("the hour of no model, or of one without an image, has no batch size", () => {
  assert.deepEqual(addMinutes([]), []);
  assert.deepEqual([addUp([]).images, addUp([]).batchSize], [0, null]);
  assert.equal(addUp(addMinutes([model([minute({})])])).batchSize, null);
});

test("the totals of an hour are those of its images, however its minutes differ", () => {
  const minutes = addMinutes([model([minute({ images: 9, mean_batch_size: 1 }), minute({ images: 1, mean_batch_size: 11 })])]);

  assert.equal(addUp(minutes).batchSize, 2);
});

test("reasons come by their number, and then by name", () => {
  assert.deepEqual(rankErrors({ b: 2, a: 2, c: 5 }), [["c", 5], ["a", 2], ["b", 2]]);
});

test("the backlog has the age of the oldest job of all queues, or none", () => {
  const queue = (queued, oldest) => ({ queued, delayed: 1, oldest_seconds: oldest });

  assert.deepEqual(measureBacklog([model([], [queue(2, 5), queue(1, 70)]), model([], [queue(0, null)])]), { queued: 3, delayed: 3, oldestSeconds: 70 });
  assert.equal(measureBacklog([]).oldestSeconds, null);
});

test("an axis ends at 1, 2 or 5 times a power of ten that holds all values", () => {
  for (const [value, end] of [[0, 1], [1, 1], [1.2, 2], [3, 5], [7, 10], [10, 10], [41, 50], [101, 200], [5000, 5000]]) {
    assert.equal(roundUp(value), end, `${value}`);
  }
});

test("durations, figures and names are in words", () => {
  assert.deepEqual([0.04, 3.26, 12.4, 59.7, 185, 3600, 7800].map(formatDuration), ["0 s", "3.3 s", "12 s", "1 min", "3 min 5 s", "1 h", "2 h 10 min"]);
  assert.deepEqual([3.456, 345.6, 12345].map(formatFigure), ["3.5", "346", "12,345"]);
  assert.deepEqual([formatAmount(1, "job"), formatAmount(0, "job")], ["1 job", "0 jobs"]);
  assert.equal(spell("setup_failed"), "Setup failed");
});

test("calls that fail come less often, up to a bound, and not before the service allows", () => {
  assert.equal(chooseDelay(2000, 0), 2000);
  assert.equal(chooseDelay(2000, 2), 8000);
  assert.equal(chooseDelay(2000, 20), 30_000);
  assert.equal(chooseDelay(2000, 1, 60), 60_000);
});
