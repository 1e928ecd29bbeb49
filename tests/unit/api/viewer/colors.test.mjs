import assert from "node:assert/strict";
import { test } from "node:test";
import { colorSegments, makeColor } from "./modules/colors.js";

/** Machado, Oliveira and Fernandes 2009, severity 1: what people see of linear sRGB, by the cones that they lack. */
const EYES = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

const multiply = (matrix, vector) => matrix.map((row) => row.reduce((sum, value, index) => sum + value * vector[index], 0));
const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);

/** Return a colour in OKLab as an eye sees it. */
function see(color, eye) {
  const seen = multiply(EYES[eye], color.map((value) => linear(value / 255))).map((value) => Math.max(value, 0));
  const cones = multiply(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]],
    seen,
  ).map(Math.cbrt);
  return multiply(
    [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.808675766]],
    cones,
  );
}

function smallestDistance(colors, eye) {
  const seen = colors.map((color) => see(color, eye));
  const pairs = seen.flatMap((one, index) => seen.slice(index + 1).map((other) => [one, other]));
  return Math.min(...pairs.map(([one, other]) => Math.hypot(...one.map((value, axis) => value - other[axis]))));
}

const buildSegments = (labels) => labels.map((label, index) => ({ id: index + 1, label }));
const range = (count) => Array.from({ length: count }, (_, index) => index);

test("a label keeps its colour while others come and go", () => {
  const assigned = new Map();
  const findColor = (labels, label) => colorSegments(buildSegments(labels), assigned).find((one) => one.label === label).color;
  const first = findColor(["cat", "dog"], "dog");

  assert.deepEqual(findColor(["tree", "sky", "dog"], "dog"), first);
  assert.deepEqual(findColor(range(60).map(String).concat("dog"), "dog"), first);
});

test("no two of 24 labels have the same colour, wherever their texts would put them", () => {
  for (const seed of range(50)) {
    const colored = colorSegments(buildSegments(range(24).map((index) => `${seed} ${index}`)), new Map());
    assert.equal(new Set(colored.map(({ color }) => String(color))).size, 24);
  }
});

test("more labels and more instances than there are colours have one too", () => {
  const labels = range(500).map((index) => `label ${index % 90}`);

  for (const { color } of colorSegments(buildSegments(labels), new Map())) {
    assert.ok(color.length === 3 && color.every((value) => Number.isInteger(value) && value >= 0 && value <= 255));
  }
});

// A difference of 0.02 in OKLab is just seen side by side.
for (const [eye, labels] of [["all", 0.065], ["no red", 0.03], ["no green", 0.04], ["no blue", 0.06]]) {
  test(`labels differ for an eye: ${eye}`, () => {
    assert.ok(smallestDistance(range(24).map((slot) => makeColor(slot, 0)), eye) > labels);
    assert.ok(smallestDistance(range(8).map((slot) => makeColor(slot, 0)), eye) > 0.07);
  });

  test(`the first instances of a label differ for an eye: ${eye}`, () => {
    for (const slot of range(24)) {
      assert.ok(smallestDistance(range(4).map((instance) => makeColor(slot, instance)), eye) > 0.024, `label ${slot}`);
    }
  });
}

test("twelve instances of each label have twelve colours, readable on light and on dark", () => {
  for (const slot of range(24)) {
    const colors = range(12).map((instance) => makeColor(slot, instance));
    assert.equal(new Set(colors.map(String)).size, 12);
    for (const color of colors) {
      const [lightness] = see(color, "all");
      assert.ok(lightness > 0.49 && lightness < 0.91);
    }
  }
});
