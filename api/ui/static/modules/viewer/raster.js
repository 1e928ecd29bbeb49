/**
 * The same picture as that of shaders.js, computed pixel by pixel: colours and outlines, and where the photo is covered.
 *
 * Pure: arrays in, arrays out; a caller may do some rows at a time.  Edges are not smoothed, as that is four times the work.
 */

import { BRIGHT_OUTLINE, FULL_OUTLINE, HALO, OUTLINE, OUTLINE_WHITE, ring, strength } from "./scene.js";
import { Interior } from "./runs.js";

const RING = ring();
/** Kinds of outlines, each in FULL_OUTLINE steps of coverage; 0 is none. */
const [WHITE, DARK, OWN] = [0, 1, 2].map((kind) => kind * FULL_OUTLINE);
const OUTLINES = 1 + 3 * FULL_OUTLINE;
/** A black pixel, as one number. */
const [OPAQUE] = new Uint32Array(Uint8Array.of(0, 0, 0, 255).buffer);
/** How far the ring of radius 1 goes along one side. */
const RING_REACH = Math.max(...RING.map(([dx]) => dx));

/**
 * Prepare the pixels of a scene.
 *
 * @param labels [left, right], each { width, height, ids } or null
 * @returns { width, height, colors, mask, fillRow(y) }: two Uint8ClampedArrays of width x height x 4, of which colors is
 *   to be drawn over the photo, and the mask is opaque where no segment is shown; fillRow() computes one row.
 */
export function prepareRaster(scene, labels) {
  const width = Math.max(1, Math.round(scene.size.width * scene.ratio));
  const height = Math.max(1, Math.round(scene.size.height * scene.ratio));
  const colors = new Uint8ClampedArray(width * height * 4);
  const mask = new Uint8ClampedArray(width * height * 4);
  const line = Math.min(Math.max(Math.ceil(scene.line * scene.ratio - 0.5), 0), width);
  const sides = labels.map((map, side) => map && prepareSide(scene, map, side, width));
  const out = { width, packed: new Uint32Array(colors.buffer), packedMask: new Uint32Array(mask.buffer) };
  const fillRow = (y) => {
    if (sides[0]) fillPart(sides[0], scene, y, 0, line, out);
    if (sides[1]) fillPart(sides[1], scene, y, line, width, out);
  };
  return { width, height, colors, mask, fillRow };
}

/** Collect of one side what does not depend on the row. */
function prepareSide(scene, map, side, width) {
  const { palette } = scene.sides[side];
  const highlighted = side === 0 ? scene.highlighted : 0;
  const shown = new Uint8Array(1 << 16);
  for (let id = 1; id < shown.length; id++) shown[id] = palette[id * 4 + 3] || id === highlighted ? 1 : 0;
  const columns = (radius) => RING.map(([dx]) => mapColumns(scene, map, width, dx * radius * scene.ratio));
  const centre = mapColumns(scene, map, width, 0);
  const look = { opacity: scene.opacity, highlighted, photoIsMissing: scene.photoIsMissing };
  const prepared = {
    map,
    shown,
    highlighted,
    pixels: listPixels(palette, shown, look),
    // Where another background is seen: what is not shown, and what is lit up although it is not.
    isBare: shown.map((_, id) => (palette[id * 4 + 3] ? 0 : 1)),
    centre,
    first: Math.max(0, centre.findIndex((column) => column >= 0)),
    last: centre.findLastIndex((column) => column >= 0) + 1,
    narrow: scene.outlines ? columns(OUTLINE) : null,
    wide: highlighted ? columns(BRIGHT_OUTLINE) : null,
  };
  const radius = prepared.wide ? reach(BRIGHT_OUTLINE, scene.ratio) : prepared.narrow ? reach(OUTLINE, scene.ratio) : 0;
  const findRow = (y) => mapRow(scene, map, y, 0);
  return { ...prepared, interior: new Interior({ map, shown, columns: prepared.centre, findRow, radius }) };
}

/** Return by outline the pixel of each id, as one number; of ids that are not shown, that of 0. */
function listPixels(palette, shown, look) {
  const pixels = Array.from({ length: OUTLINES }, () => new Uint32Array(1 << 16));
  const pixel = new Uint8ClampedArray(4);
  const packed = new Uint32Array(pixel.buffer);
  for (let id = 0; id < shown.length; id++) {
    if (id && !shown[id]) continue;
    const share = palette[id * 4 + 3] ? strength(id, look) : 0;
    for (let outline = 0; outline < OUTLINES; outline++) {
      pixel.fill(0);
      put(pixel, palette, id, share, outline);
      pixels[outline][id] = packed[0];
    }
  }
  return pixels;
}

/** Return how many pixels around one the ring of an outline touches. */
function reach(radius, ratio) {
  return Math.ceil(radius * ratio * RING_REACH);
}

/** Return the column of the label map for each device pixel, shifted by device pixels; -1 outside. */
function mapColumns({ view, ratio, picture }, map, width, shift) {
  return Int32Array.from({ length: width }, (_, x) => {
    const share = ((x + 0.5 + shift) / ratio - view.x) / view.scale / picture.width;
    return share < 0 || share >= 1 ? -1 : Math.floor(share * map.width);
  });
}

/** Return where the row of the label map begins, -1 outside. */
function mapRow({ view, ratio, picture }, map, y, shift) {
  const share = ((y + 0.5 + shift) / ratio - view.y) / view.scale / picture.height;
  return share < 0 || share >= 1 ? -1 : Math.floor(share * map.height) * map.width;
}

function fillPart(side, scene, y, from, to, out) {
  const { map } = side;
  const row = mapRow(scene, map, y, 0);
  if (row < 0) return;
  const rows = (radius) => RING.map(([, dy]) => mapRow(scene, map, y, dy * radius * scene.ratio));
  const around = { narrow: side.narrow && rows(OUTLINE), wide: side.wide && rows(BRIGHT_OUTLINE) };
  const inside = side.interior.find(y);
  let [x, end] = clip(side, from, to);
  for (let at = 0; at < inside.count && x < end; at++) {
    if (inside.to[at] <= x) continue;
    const start = Math.min(Math.max(inside.from[at], x), end);
    fillEdges(side, row, around, y, x, start, out);
    x = Math.min(inside.to[at], end);
    fillInside(side, inside.ids[at], y * out.width + start, y * out.width + x, out);
  }
  fillEdges(side, row, around, y, x, end, out);
}

/** Return the part of a row that the label map covers. */
function clip({ first, last }, from, to) {
  return [Math.max(from, first), Math.min(to, last)];
}

function fillInside({ pixels, isBare }, id, from, to, out) {
  out.packed.fill(pixels[0][id], from, to);
  if (isBare[id]) out.packedMask.fill(OPAQUE, from, to);
}

function fillEdges(side, row, around, y, from, to, out) {
  const { map, pixels, shown, isBare, centre } = side;
  for (let x = from, at = y * out.width + from; x < to; x++, at++) {
    const raw = map.ids[row + centre[x]];
    const id = shown[raw] ? raw : 0;
    out.packed[at] = pixels[findOutline(side, x, id, around.narrow, around.wide)][id];
    if (isBare[id]) out.packedMask[at] = OPAQUE;
  }
}

/** Return the outline at a pixel: its kind and its steps of coverage, as one number. */
function findOutline(side, x, id, narrow, wide) {
  if (wide) {
    const [count, touches] = countOthers(side, side.wide, wide, x, id);
    if (id === side.highlighted) return count && WHITE + cover(count);
    if (touches) return DARK + cover(count);
  }
  if (!narrow) return 0;
  const count = countSome(side, side.narrow, narrow, x, id);
  return count && (id ? OWN : DARK) + count;
}

const cover = (count) => Math.min(count, FULL_OUTLINE);
const counted = [0, false];

/** Return how many points of the ring lie in another segment, and whether one lies in that which is lit up. */
function countOthers({ map, shown, highlighted }, columns, rows, x, id) {
  counted[0] = 0;
  counted[1] = false;
  for (let index = 0; index < 8; index++) {
    const column = columns[index][x];
    const raw = rows[index] < 0 || column < 0 ? 0 : map.ids[rows[index] + column];
    const other = shown[raw] ? raw : 0;
    if (other === id) continue;
    counted[0]++;
    if (other && other === highlighted) counted[1] = true;
  }
  return counted;
}

/** Return the same number of points, as far as an outline is the wider for it. */
function countSome({ map, shown }, columns, rows, x, id) {
  let count = 0;
  for (let index = 0; index < 8 && count < FULL_OUTLINE; index++) {
    const column = columns[index][x];
    const raw = rows[index] < 0 || column < 0 ? 0 : map.ids[rows[index] + column];
    if ((shown[raw] ? raw : 0) !== id) count++;
  }
  return count;
}

/** Write the colour and the opacity of the segment under an outline. */
function put(pixel, palette, id, share, outline) {
  const isOwn = outline > OWN;
  const isDark = !isOwn && outline > DARK;
  const steps = outline && ((outline - 1) % FULL_OUTLINE) + 1;
  const coverage = (steps / FULL_OUTLINE) * (isDark ? HALO : 1);
  const alpha = 1 - (1 - share) * (1 - coverage);
  if (alpha === 0) return;
  for (let channel = 0; channel < 3; channel++) {
    const own = palette[id * 4 + channel];
    const line = isOwn ? own + (255 - own) * OUTLINE_WHITE : isDark ? 0 : 255;
    pixel[channel] = (own * share * (1 - coverage) + line * coverage) / alpha;
  }
  pixel[3] = alpha * 255;
}
