/** The picture without WebGL: the quick way for the inside of segments gives the same pixels as one at a time. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { prepareRaster } from "./modules/raster.js";
import * as scenes from "./modules/scene.js";
import { fit, zoomAt } from "./modules/view.js";

/** Numbers from 0 to 1, the same in each run (mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomNumbers(5);
const whole = (low, high) => low + Math.floor(random() * (high - low + 1));

/** Blocks of the ids 0 to 4, of which 4 is not among the segments. */
function makeLabels() {
  const [width, height, block] = [whole(1, 40), whole(1, 40), whole(1, 12)];
  const ids = new (random() < 0.5 ? Uint8Array : Uint16Array)(width * height);
  const blocks = Array.from({ length: 41 * 41 }, () => whole(0, 4));
  for (let at = 0; at < ids.length; at++) {
    ids[at] = blocks[Math.floor(Math.floor(at / width) / block) * 41 + Math.floor((at % width) / block)];
  }
  return { width, height, ids };
}

/** A scene in which no pixel of the label map is smaller than one of the screen. */
function makeScene(labels) {
  const size = { width: whole(40, 120), height: whole(40, 120) };
  const picture = { width: labels.width, height: labels.height };
  const view = zoomAt(fit(size, picture), 1 + 5 * random(), { x: 10, y: 10 }, size, picture);
  const palette = scenes.buildPalette([1, 2, 3].map((id) => ({ id, color: [60 * id, 200 - 40 * id, 100] })));
  const line = random() < 0.3 ? size.width / 2 : size.width + 1;
  return {
    ...{ view, size, picture, line, sides: [{ palette }, line < size.width ? { palette } : null] },
    ...{ ratio: [1, 1.5, 2][whole(0, 2)], opacity: 0.5, outlines: random() < 0.8, background: "photo" },
    ...{ highlighted: random() < 0.4 ? 2 : 0, photoIsMissing: random() < 0.1 },
  };
}

/** Return [red, green, blue, alpha] of a pixel, by the rules of scene.js alone. */
function paint(scene, labels, x, y) {
  const isRight = x + 0.5 >= scene.line * scene.ratio;
  const { palette } = scene.sides[isRight ? 1 : 0];
  const highlighted = isRight ? 0 : scene.highlighted;
  const read = (left, top) => {
    const column = Math.floor((((left + 0.5) / scene.ratio - scene.view.x) / scene.view.scale / scene.picture.width) * labels.width);
    const row = Math.floor((((top + 0.5) / scene.ratio - scene.view.y) / scene.view.scale / scene.picture.height) * labels.height);
    if (column < 0 || row < 0 || column >= labels.width || row >= labels.height) return null;
    return labels.ids[row * labels.width + column];
  };
  const show = (id) => (id && (palette[id * 4 + 3] || id === highlighted) ? id : 0);
  const id = read(x, y);
  if (id === null) return [0, 0, 0, 0];
  const others = (radius) => scenes.ring()
    .map(([dx, dy]) => show(read(x + dx * radius * scene.ratio, y + dy * radius * scene.ratio)))
    .filter((other) => other !== show(id));
  const share = palette[id * 4 + 3] ? scenes.strength(id, { ...scene, highlighted }) : 0;
  return mix(palette.slice(id * 4, id * 4 + 3), share, outline(scene, show(id), highlighted, others));
}

function outline(scene, id, highlighted, others) {
  const cover = (found) => Math.min(found.length / scenes.FULL_OUTLINE, 1);
  if (highlighted) {
    const found = others(scenes.BRIGHT_OUTLINE);
    if (id === highlighted) return { line: [255, 255, 255], coverage: cover(found) };
    if (found.includes(highlighted)) return { line: [0, 0, 0], coverage: cover(found) * scenes.HALO };
  }
  if (!scene.outlines) return { coverage: 0 };
  const found = others(scenes.OUTLINE);
  return id ? { coverage: cover(found) } : { line: [0, 0, 0], coverage: cover(found) * scenes.HALO };
}

function mix(own, share, { line, coverage }) {
  const alpha = 1 - (1 - share) * (1 - coverage);
  if (!alpha) return [0, 0, 0, 0];
  const colors = [...own].map((value, channel) => {
    const drawn = line ? line[channel] : value + (255 - value) * scenes.OUTLINE_WHITE;
    return (value * share * (1 - coverage) + drawn * coverage) / alpha;
  });
  return [...colors, 255 * alpha];
}

test("each pixel has the colour that the rules of a scene give", () => {
  for (let round = 0; round < 60; round++) {
    const labels = makeLabels();
    const scene = makeScene(labels);
    const raster = prepareRaster(scene, [labels, scene.sides[1] && labels]);
    for (let y = 0; y < raster.height; y++) raster.fillRow(y);

    const expected = new Uint8ClampedArray(raster.colors.length);
    for (let at = 0; at < raster.width * raster.height; at++) {
      expected.set(paint(scene, labels, at % raster.width, Math.floor(at / raster.width)), 4 * at);
    }
    const wrong = expected.findIndex((value, at) => Math.abs(value - raster.colors[at]) > 1);
    assert.equal(wrong, -1, `round ${round}, byte ${wrong}: ${raster.colors[wrong]} instead of ${expected[wrong]}`);
  }
});

test("what no segment covers is marked for another background", () => {
  const labels = { width: 3, height: 1, ids: Uint8Array.from([0, 1, 4]) };
  const size = { width: 3, height: 1 };
  const palette = scenes.buildPalette([{ id: 1, color: [9, 9, 9] }]);
  const scene = { view: { scale: 1, x: 0, y: 0 }, size, picture: size, ratio: 1, line: 9, sides: [{ palette }, null], opacity: 1, highlighted: 0 };
  const raster = prepareRaster(scene, [labels, null]);

  raster.fillRow(0);

  assert.deepEqual([3, 7, 11].map((at) => raster.mask[at]), [255, 0, 255]);
});
