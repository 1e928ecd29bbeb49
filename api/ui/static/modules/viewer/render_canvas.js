/**
 * Drawing without WebGL2: the same interface and nearly the same picture as render_webgl.js.
 *
 * Colours and outlines are computed for the pixels of the screen (raster.js) in short slices; until they are done, the
 * former ones are drawn at their new place, so that panning and zooming do not wait for them.
 */

import { prepareRaster } from "./raster.js";
import { resizeCanvas } from "./render_webgl.js";
import { BLUR, CHECK, DIM, SQUARE_PIXELS } from "./scene.js";
import { scaleInStrips } from "./strips.js";
import { giveWay } from "./turns.js";

const COPY_PIXELS = 1 << 22;
const SLICE_MS = 5;
/** Computing begins when the view has rested for so long. */
const REST_MS = 60;

/** onChange: called when something has to be drawn again. */
export function createCanvasRenderer(canvas, onChange) {
  return new CanvasRenderer(canvas, onChange);
}

class CanvasRenderer {
  name = "canvas";

  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onChange = onChange;
    this.photo = null;
    this.copy = null;
    this.isCopying = false;
    this.labels = [null, null];
    this.layers = null;
    this.asked = null;
    this.done = null;
    // What is on the canvas; see describePainted().
    this.painted = null;
    this.backdrop = { key: "", canvas: null };
    this.scratch = document.createElement("canvas");
    this.checks = { key: "", pattern: null };
  }

  get isBusy() {
    return this.isCopying || this.asked !== this.done;
  }

  setPhoto(photo) {
    this.photo = photo?.width ? photo : null;
    this.backdrop.key = "";
    this.asked = null;
    this.copy = this.photo;
    this.isCopying = false;
    if (this.photo && this.photo.width * this.photo.height > COPY_PIXELS) this.makeCopy(this.photo);
  }

  /** Scale a large photo down; what is there of the copy is drawn meanwhile. */
  async makeCopy(photo) {
    const scale = Math.sqrt(COPY_PIXELS / (photo.width * photo.height));
    const width = Math.max(1, Math.round(photo.width * scale));
    const height = Math.max(1, Math.round(photo.height * scale));
    const copy = Object.assign(document.createElement("canvas"), { width, height });
    const context = copy.getContext("2d");
    const take = (strip, top) => {
      context.drawImage(strip, 0, top);
      this.onChange();
    };
    this.copy = copy;
    this.isCopying = true;
    if (!(await scaleInStrips(photo, copy, take, () => this.copy === copy))) return;
    this.isCopying = false;
    // It was made of a part.
    this.backdrop.key = "";
    this.onChange();
  }

  setLabels(side, labels) {
    this.labels[side] = labels;
    this.asked = null;
    // What was computed of another photo is not to be seen over the next one.
    if (side === 0 && !labels) this.layers = this.done = null;
  }

  /** Begin to compute what a scene needs; it is drawn when it is there. */
  prepare(given) {
    const scene = { ...given, photoIsMissing: !this.photo };
    if (given.picture && !isSame(this.asked, scene)) this.compute(scene);
    return scene;
  }

  /** Draw a scene as far as it is computed, and compute the rest. */
  draw(given) {
    const scene = this.prepare(given);
    const painted = this.describePainted(given);
    // Scaling a photo takes most of the time, and while other segments are computed the picture stays as it is.
    if (isAllSame(painted, this.painted)) return;
    this.painted = this.isCopying ? null : painted;
    this.paint(scene);
  }

  /** Return all that decides what is painted. */
  describePainted({ view, size, ratio, picture, background, theme }) {
    const { photo, copy, layers } = this;
    return { ...view, ...size, ratio, across: picture?.width, down: picture?.height, background, theme, photo, copy, layers };
  }

  paint(scene) {
    resizeCanvas(this.canvas, scene);
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!scene.picture) return;
    this.drawPhoto(scene);
    if (!this.layers) return;
    if (scene.background !== "photo") this.drawBehind(scene);
    this.place(context, scene);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.layers.colors, 0, 0);
  }

  drawPhoto(scene) {
    const { context } = this;
    setView(context, scene);
    if (!this.photo || this.isCopying) {
      context.fillStyle = `rgb(${scene.theme.empty})`;
      context.fillRect(0, 0, scene.picture.width, scene.picture.height);
    }
    if (!this.photo) return;
    const density = scene.view.scale * scene.ratio;
    const source = density * this.photo.width <= this.copy.width * 1.1 ? this.copy : this.photo;
    context.imageSmoothingEnabled = density < SQUARE_PIXELS;
    if (source === this.copy) context.drawImage(source, 0, 0, scene.picture.width, scene.picture.height);
    else drawSeen(context, source, scene);
  }

  /** Cover the photo where no segment is. */
  drawBehind(scene) {
    const context = this.scratch.getContext("2d");
    resizeCanvas(this.scratch, scene);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "copy";
    this.paintBackdrop(context, scene);
    context.globalCompositeOperation = "destination-in";
    this.place(context, scene);
    context.imageSmoothingEnabled = false;
    // It is needed for other backgrounds alone.
    this.layers.mask ??= makeLayer(this.layers.raster, this.layers.raster.mask);
    context.drawImage(this.layers.mask, 0, 0);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.drawImage(this.scratch, 0, 0);
  }

  paintBackdrop(context, scene) {
    if (scene.background === "transparent") {
      context.fillStyle = this.findChecks(scene);
      context.fillRect(0, 0, this.scratch.width, this.scratch.height);
    } else if (this.photo) {
      setView(context, scene);
      context.drawImage(this.findBackdrop(scene.background), 0, 0, scene.picture.width, scene.picture.height);
    }
  }

  /** Set the place of the computed layers in this scene, which may be of another view. */
  place(context, { view, ratio }) {
    const scale = view.scale / this.layers.view.scale;
    const { x, y } = this.layers.view;
    const move = (to, from) => (to - from * scale) * ratio;
    context.setTransform(scale, 0, 0, scale, move(view.x, x), move(view.y, y));
  }

  findBackdrop(background) {
    if (this.backdrop.key === background) return this.backdrop.canvas;
    const { width, height } = this.copy;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    const radius = BLUR * Math.max(width, height);
    const filters = { blur: `blur(${radius}px)`, gray: "grayscale(1)", dim: `saturate(0.5) brightness(${DIM})` };
    if (background === "blur") context.drawImage(this.copy, 0, 0, width, height);
    context.filter = filters[background];
    context.drawImage(this.copy, 0, 0, width, height);
    this.backdrop = { key: background, canvas };
    return canvas;
  }

  findChecks({ theme, ratio }) {
    const key = `${theme.checks} ${ratio}`;
    if (this.checks.key !== key) this.checks = { key, pattern: paintChecks(this.context, theme.checks, CHECK * ratio) };
    return this.checks.pattern;
  }

  async compute(scene) {
    const isMove = this.asked && this.layers && !isSameView(this.asked.view, scene.view);
    this.asked = scene;
    await (isMove ? wait(REST_MS) : giveWay());
    if (this.asked !== scene) return;
    const raster = prepareRaster(scene, this.labels);
    let sliceEnd = 0;
    for (let y = 0; y < raster.height; y++) {
      raster.fillRow(y);
      if (performance.now() < sliceEnd) continue;
      await giveWay();
      if (this.asked !== scene) return;
      sliceEnd = performance.now() + SLICE_MS;
    }
    await giveWay();
    if (this.asked !== scene) return;
    this.layers = { view: scene.view, colors: makeLayer(raster, raster.colors), mask: null, raster };
    this.done = scene;
    this.onChange();
  }

  dispose() {
    this.asked = null;
    this.setPhoto(null);
  }
}

function isAllSame(one, other) {
  return other !== null && Object.keys(one).every((key) => one[key] === other[key]);
}

/** Return whether the same pixels come out. */
function isSame(one, other) {
  if (!one) return false;
  const keys = ["opacity", "outlines", "highlighted", "line", "ratio", "photoIsMissing"];
  const { size, picture } = one;
  return (
    keys.every((key) => one[key] === other[key]) &&
    isSameView(one.view, other.view) &&
    size.width === other.size.width &&
    size.height === other.size.height &&
    picture.width === other.picture.width &&
    picture.height === other.picture.height &&
    one.sides.every((side, index) => side?.palette === other.sides[index]?.palette)
  );
}

function isSameView(one, other) {
  return one.scale === other.scale && one.x === other.x && one.y === other.y;
}

function setView(context, { view, ratio }) {
  context.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.x * ratio, view.y * ratio);
}

/** Draw the part of the photo that is on the screen alone. */
function drawSeen(context, photo, { view, size }) {
  const left = Math.max(0, Math.floor(-view.x / view.scale));
  const top = Math.max(0, Math.floor(-view.y / view.scale));
  const right = Math.min(photo.width, Math.ceil((size.width - view.x) / view.scale));
  const bottom = Math.min(photo.height, Math.ceil((size.height - view.y) / view.scale));
  if (right <= left || bottom <= top) return;
  context.drawImage(photo, left, top, right - left, bottom - top, left, top, right - left, bottom - top);
}

function makeLayer({ width, height }, pixels) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}

function paintChecks(context, [light, dark], side) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * side, height: 2 * side });
  const tile = canvas.getContext("2d");
  tile.fillStyle = `rgb(${light})`;
  tile.fillRect(0, 0, 2 * side, 2 * side);
  tile.fillStyle = `rgb(${dark})`;
  tile.fillRect(side, 0, side, side);
  tile.fillRect(0, side, side, side);
  return context.createPattern(canvas, "repeat");
}

function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
