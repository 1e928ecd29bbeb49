/** Programs to copy, names of files, the list of segments, words: modules that make text of values. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { load } from "./modules.mjs";

const { SERVICE_DEFAULTS, adaptTo, buildQuery, isSame, selectChanged } = await load("app/parameters.js");
const { buildSnippets, quoteShell } = await load("app/snippets.js");
const { findFault, formatBytes, nameCutOut, nameDownload } = await load("app/files.js");
const { countLabels, findMatch, formatShare, nameSegments, readLabel, sortSegments } = await load("app/segments.js");
const { describeState, formatDuration, listStages } = await load("app/words.js");

const REQUEST = {
  root: "http://127.0.0.1:8000/",
  fileName: "photo.jpg",
  parameters: { ...SERVICE_DEFAULTS, threshold: 0.5, fuse_stuff: true },
  model: "org/name",
  format: { name: "coco", file: "coco.json" },
  hasToken: false,
};
const HOSTILE = ["it's.jpg", '"$(touch x)`".jpg', "a\\b\n.jpg", "-o", "ü 😀.jpg"];

test("a request names what differs from the service's own values alone", () => {
  assert.deepEqual(selectChanged({ ...SERVICE_DEFAULTS, threshold: 0.5, subtask: "semantic", unknown: 1 }), { threshold: 0.5, subtask: "semantic" });
  assert.equal(buildQuery(SERVICE_DEFAULTS, { formats: "labels", model: null }), "formats=labels");
  assert.ok(isSame({ ...SERVICE_DEFAULTS }, { ...SERVICE_DEFAULTS, subtask: undefined }));
  assert.ok(!isSame(SERVICE_DEFAULTS, { ...SERVICE_DEFAULTS, threshold: 0.5 }));
});

test("the kind of segments stays with another model if that has it", () => {
  const chosen = { ...SERVICE_DEFAULTS, threshold: 0.3, subtask: "instance" };

  assert.deepEqual(adaptTo({ subtasks: ["panoptic", "instance"] }, chosen), chosen);
  assert.deepEqual(adaptTo({ subtasks: ["semantic"] }, chosen), { ...chosen, subtask: null });
  assert.deepEqual(adaptTo({ id: "its details could not be read" }, chosen), chosen);
});

test("every program names the parameters, the model and the file", () => {
  for (const [language, text] of Object.entries(buildSnippets(REQUEST))) {
    for (const part of ["http://127.0.0.1:8000/v1/jobs", "photo.jpg", "threshold", "0.5", "fuse_stuff", "org/name", "coco.json"]) {
      assert.ok(text.includes(part), `${language} lacks ${part}`);
    }
    assert.ok(!text.includes("MASKMILL_TOKEN"), language);
  }
});

test("a token is named by a variable", () => {
  for (const text of Object.values(buildSnippets({ ...REQUEST, hasToken: true }))) assert.ok(text.includes("MASKMILL_TOKEN"));
});

test("a shell reads each name of a file as one word", () => {
  for (const name of [...HOSTILE, "plain.jpg"]) {
    const script = `printf %s ${quoteShell(name)}`;

    assert.equal(execFileSync("sh", ["-c", script], { encoding: "utf8" }), name);
  }
});

test("names of files cannot end a literal", () => {
  for (const fileName of HOSTILE) {
    const { JavaScript } = buildSnippets({ ...REQUEST, fileName });
    const literal = JavaScript.match(/readFile\((.*)\);/)[1];

    assert.equal(JSON.parse(literal), fileName);
  }
});

test("what cannot be a photo is refused before it is sent", () => {
  const limits = { maxBytes: 1000 };

  assert.equal(findFault({ name: "a.pdf", type: "application/pdf", size: 9 }, limits).errorType, "not_an_image");
  assert.equal(findFault({ name: "a.jpg", type: "image/jpeg", size: 1001 }, limits).errorType, "body_too_large");
  assert.equal(findFault({ name: "a.jpg", type: "image/jpeg", size: 0 }, limits).errorType, "not_an_image");
  assert.equal(findFault({ name: "a.heic", type: "", size: 1000 }, limits), null);
  assert.equal(findFault({ name: "a.jpg", type: "image/jpeg", size: 10_000 }, { maxBytes: null }), null);
});

test("files are named for the photo", () => {
  assert.equal(nameDownload("street.view.jpg", "coco.json"), "street.view.coco.json");
  assert.equal(nameDownload(".hidden", "coco.json"), ".hidden.coco.json");
  assert.equal(nameCutOut("a.jpg", "wall-other merged"), "a.wall-other-merged.png");
  assert.equal(nameCutOut("a.jpg", ""), "a.cut-out.png");
  assert.deepEqual([999, 1000, 33_554_432].map(formatBytes), ["999 bytes", "1.0 kB", "33.6 MB"]);
});

const SEGMENTS = [
  { id: 1, label: "person", score: 0.9, area: 10, bbox: [0, 0, 10, 10] },
  { id: 2, label: "sky", score: null, area: 50, bbox: [0, 0, 100, 50] },
  { id: 3, label: "person", score: 0.95, area: 5, bbox: [60, 60, 20, 20] },
];

test("segments are sorted by area or score; those without a score come last", () => {
  assert.deepEqual(sortSegments(SEGMENTS, "area").map(({ id }) => id), [2, 1, 3]);
  assert.deepEqual(sortSegments(SEGMENTS, "score").map(({ id }) => id), [3, 1, 2]);
});

test("segments of the same label are numbered", () => {
  assert.deepEqual([...nameSegments(SEGMENTS).values()], ["person 1", "sky", "person 2"]);
  assert.deepEqual(["wall-other-merged", "dining table", "wall-brick", "other-dog"].map(readLabel), ["wall", "dining table", "wall brick", "other dog"]);
  assert.deepEqual(countLabels(SEGMENTS), [{ label: "person", count: 2 }, { label: "sky", count: 1 }]);
});

test("the same thing is found in a result of another size", () => {
  const preview = SEGMENTS.map((one) => ({ ...one, id: one.id + 10, bbox: one.bbox.map((value) => value / 2) }));

  const found = findMatch(SEGMENTS[2], { width: 100, height: 100 }, preview, { width: 50, height: 50 });

  assert.equal(found.id, 13);
  assert.equal(findMatch({ ...SEGMENTS[2], label: "dog" }, { width: 100, height: 100 }, preview, { width: 50, height: 50 }), undefined);
});

test("shares and durations are told in words", () => {
  assert.deepEqual([0, 4, 99, 420].map((area) => formatShare(area, 10_000)), ["covered", "< 0.1 %", "1.0 %", "4.2 %"]);
  assert.deepEqual([0.74, 26.4, 1560, 200_000].map((ms) => formatDuration(ms)), ["0.7 ms", "26 ms", "1.6 s", "4 minutes"]);
});

test("a state says the place in the queue and when it ends", () => {
  const now = Date.parse("2026-11-28T12:00:00Z");
  const entry = { state: "queued", position: 3, eta: { latest: "2026-11-28T12:00:08Z" }, stages: [], timings: {} };

  assert.equal(describeState(entry, now), "Number 3 in the queue, done within 8 seconds");
  assert.equal(describeState({ ...entry, position: 1, eta: null }, now), "Next in the queue");
  assert.equal(describeState({ ...entry, state: "uploading", progress: 0.456 }, now), "Uploading, 46 %");
});

test("stages have the times of the job once it has ended, and those seen before", () => {
  const stages = [{ name: "decode", at: 1000 }, { name: "batch", at: 1200 }];

  assert.deepEqual(listStages({ stages, timings: {} }).map(({ ms }) => ms), [200, null]);
  assert.deepEqual(listStages({ stages, timings: { decode: 150.5 } }), [{ name: "Reading the photo", ms: 150.5 }]);
});
