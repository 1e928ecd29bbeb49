import assert from "node:assert/strict";
import { test } from "node:test";
import * as view from "./modules/view.js";

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

const random = randomNumbers(17);
const between = (low, high) => low + random() * (high - low);
const size = (high) => ({ width: Math.ceil(between(1, high)), height: Math.ceil(between(1, high)) });
const pointIn = ({ width, height }) => ({ x: between(0, width), y: between(0, height) });
const assertClose = (one, other) => assert.ok(Math.abs(one - other) < 1e-6 * Math.max(1, Math.abs(one)), `${one} ${other}`);

/** Views that a person could reach. */
function* walk(steps = 2000) {
  for (let step = 0; step < steps; step++) {
    const [element, picture] = [size(2000), size(9000)];
    let current = view.fit(element, picture);
    for (let change = 0; change < 4; change++) {
      current = view.zoomAt(current, Math.exp(between(-2, 4)), pointIn(element), element, picture);
      current = view.pan(current, between(-3000, 3000), between(-3000, 3000), element, picture);
    }
    yield { current, element, picture };
  }
}

test("a point of the screen and its point of the picture are each other's", () => {
  for (const { current, element } of walk()) {
    const point = pointIn(element);
    const back = view.toScreen(current, view.toPicture(current, point));
    assertClose(back.x, point.x);
    assertClose(back.y, point.y);
  }
});

test("the picture fills the element, or is in its middle", () => {
  for (const { current, element, picture } of walk()) {
    for (const [offset, free, length] of [
      [current.x, element.width, picture.width * current.scale],
      [current.y, element.height, picture.height * current.scale],
    ]) {
      if (length <= free) assertClose(offset, (free - length) / 2);
      else assert.ok(offset <= 1e-6 && offset + length >= free - 1e-6);
    }
  }
});

test("a view is no smaller than the whole picture or its pixels, and no larger than is useful", () => {
  for (const { current, element, picture } of walk()) {
    const whole = view.fit(element, picture).scale;
    assert.ok(current.scale >= Math.min(whole, 1) - 1e-9);
    assert.ok(current.scale <= Math.max(view.MAX_SCALE, whole) + 1e-9);
  }
});

test("what is under the pointer stays there while zooming in", () => {
  const element = { width: 800, height: 600 };
  const picture = { width: 4000, height: 3000 };
  for (let step = 0; step < 500; step++) {
    const point = pointIn(element);
    const before = view.fit(element, picture);
    const after = view.zoomAt(before, between(1.01, 50), point, element, picture);
    assertClose(view.toPicture(before, point).x, view.toPicture(after, point).x);
    assertClose(view.toPicture(before, point).y, view.toPicture(after, point).y);
  }
});

test("the middle stays when the element's size changes, and a whole picture stays whole", () => {
  const picture = { width: 4000, height: 3000 };
  const [before, after] = [{ width: 800, height: 600 }, { width: 400, height: 700 }];
  const zoomed = view.zoomAt(view.fit(before, picture), 10, { x: 400, y: 300 }, before, picture);

  const resized = view.resize(zoomed, before, after, picture);

  assert.deepEqual(view.toPicture(resized, { x: 200, y: 350 }), view.toPicture(zoomed, { x: 400, y: 300 }));
  assert.deepEqual(view.resize(view.fit(before, picture), before, after, picture), view.fit(after, picture));
});

test("one pixel of the picture is one of the screen on request, of a small picture too", () => {
  const element = { width: 800, height: 600, ratio: 2 };
  for (const picture of [{ width: 4000, height: 3000 }, { width: 300, height: 200 }]) {
    const whole = view.fit(element, picture);

    const shown = view.showPixels(whole, element, picture);

    assert.equal(shown.scale, 0.5);
    assert.deepEqual(view.zoomAt(shown, whole.scale / 0.5, { x: 400, y: 300 }, element, picture).scale, whole.scale);
  }
});

test("a small picture that is shown by its pixels stays so when the element's size changes", () => {
  const picture = { width: 300, height: 200 };
  const [before, after] = [{ width: 800, height: 600 }, { width: 400, height: 700 }];
  const shown = view.showPixels(view.fit(before, picture), before, picture);

  assert.deepEqual(view.resize(shown, before, after, picture), { scale: 1, x: 50, y: 250 });
  assert.ok(view.isFit(shown, before, picture));
});

test("a pixel of a small label map stands for all pixels of the photo that it covers", () => {
  const labels = { width: 2, height: 2, ids: Uint8Array.from([1, 2, 3, 4]) };
  const picture = { width: 5, height: 4 };
  const row = (y) => [0, 1, 2, 3, 4].map((x) => view.labelAt(labels, picture, { x: x + 0.5, y }));

  assert.deepEqual([row(0.5), row(1.9), row(2.1)], [[1, 1, 2, 2, 2], [1, 1, 2, 2, 2], [3, 3, 4, 4, 4]]);
  for (const [x, y] of [[-0.1, 1], [5, 1], [1, -0.1], [1, 4]]) assert.equal(view.labelAt(labels, picture, { x, y }), 0);
});
