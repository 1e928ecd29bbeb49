/** Errors in plain words: a title, what to do, and how long to wait. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./modules.mjs";

const { ServiceError, readError } = await load("api.js");
const { explain, explainFailure, formatWait, speak } = await load("errors.js");

test("an answer is read with its code, its wait and its details", () => {
  const error = readError(429, "12", '{"error":"Too many.","error_type":"too_many_requests","limit":5,"request_id":"r"}');

  assert.deepEqual(
    [error.status, error.errorType, error.message, error.retryAfterSeconds, error.details],
    [429, "too_many_requests", "Too many.", 12, { limit: 5 }],
  );
});

test("an answer that is no JSON, as of a proxy, is an error all the same", () => {
  const error = readError(502, null, "<html>Bad gateway</html>");

  assert.deepEqual([error.errorType, error.retryAfterSeconds], ["unknown", null]);
  assert.equal(explain(error).title, "Something went wrong on the server");
});

test("each error says what to do", () => {
  const errors = [
    new ServiceError({ status: 0, errorType: "unreachable", message: "" }),
    new ServiceError({ status: 401, errorType: "unauthorized", message: "No token." }),
    new ServiceError({ status: 413, errorType: "body_too_large", message: "Too large." }),
    new ServiceError({ status: 418, errorType: "of a later version", message: "New." }),
    new ServiceError({ status: 503, errorType: "of a later version", message: "New." }),
    new TypeError("a bug"),
  ];

  for (const error of errors) {
    const { title, advice } = explain(error);
    assert.ok(title.length > 3 && advice.endsWith("."), error.errorType);
  }
});

test("a wait is told where the service gives one", () => {
  const error = new ServiceError({ status: 429, errorType: "queue_full", message: "Full.", retryAfterSeconds: 12 });

  assert.deepEqual([explain(error).advice, explain(error).waitSeconds], ["Wait 12 seconds, then try again.", 12]);
  assert.deepEqual([1, 60, 100, 7200].map(formatWait), ["1 second", "60 seconds", "2 minutes", "2 hours"]);
});

test("a job that failed is explained by its own error", () => {
  const failed = explainFailure({ state: "failed", error: "The file stops.", error_type: "truncated_image" });

  assert.deepEqual([failed.title, failed.detail], ["The photo is incomplete", "The file stops."]);
  assert.equal(explainFailure({ state: "expired", error: null }).title, "Not done in time");
});

test("a file that is no photo is told without the words of a decoder", () => {
  const error = new ServiceError({ status: 400, errorType: "not_an_image", message: "cannot identify image file" });

  assert.deepEqual([explain(error).title, explain(error).detail], ["This file is not a photo that can be read", ""]);
});

test("what a screen reader says are sentences", () => {
  assert.equal(speak({ title: "Too large", detail: "It has 9 MB.", advice: "Scale it down." }), "Too large. It has 9 MB. Scale it down.");
});
