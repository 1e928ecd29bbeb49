/**
 * The same picture as that of shaders.js, computed pixel by pixel: colours and outlines, and where the photo is covered.
 *
 * Pure: arrays in, arrays out; a caller may do some rows at a time.  Edges are not smoothed, as that is four times the work.
 */

import { BRIGHT_OUTLINE, FULL_OUTLINE, HALO, OUTLINE, OUTLINE_WHITE, ring, strength } from "./scene.js";

const RING = ring();
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
  const out = { width, colors, mask, packed: new Uint32Array(colors.buffer) };
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
  const look = { opacity: scene.opacity, highlighted, photoIsMissing: scene.photoIsMissing };
  const prepared = {
    map,
    palette,
    shown,
    highlighted,
    look,
    fills: listFills(palette, look),
    centre: mapColumns(scene, map, width, 0),
    narrow: scene.outlines ? columns(OUTLINE) : null,
    wide: highlighted ? columns(BRIGHT_OUTLINE) : null,
  };
  return { ...prepared, interior: new Interior(scene, prepared) };
}

/** Return the pixel of each id where no outline is, as one number. */
function listFills(palette, look) {
  const fills = new Uint32Array(1 << 16);
  const pixel = new Uint8ClampedArray(4);
  const packed = new Uint32Array(pixel.buffer);
  for (let id = 1; id < fills.length; id++) {
    if (!palette[id * 4 + 3]) continue;
    pixel.fill(0);
    put(pixel, 0, palette, id, strength(id, look), NOTHING);
    fills[id] = packed[0];
  }
  return fills;
}

/**
 * Finds the pixels around which all is of the same segment: they have no outline, and are most of a picture.
 *
 * It looks at the pixels of the screen in a square that holds the ring.  In a label map of more pixels than the screen
 * has, what is thinner than one of them may get no outline.
 */
class Interior {
  constructor(scene, { map, shown, centre, wide, narrow }) {
    Object.assign(this, { scene, map, shown, centre });
    this.radius = wide ? reach(BRIGHT_OUTLINE, scene.ratio) : narrow ? reach(OUTLINE, scene.ratio) : 0;
    // The rows of one square, each in the place of one that is no longer needed.
    this.rows = Array.from({ length: 2 * this.radius + 1 }, () => makeRow(centre.length));
    this.isInside = new Uint8Array(centre.length);
  }

  /** Return by column whether a pixel of the row lies so; it is overwritten by the next call. */
  find(y) {
    const { radius, isInside } = this;
    const own = this.read(y);
    isInside.set(own.isFlat);
    for (let row = y - radius; row <= y + radius; row++) {
      if (row !== y) keepSame(isInside, own.ids, this.read(row));
    }
    return isInside;
  }

  /** Return a row of the screen: the ids that are shown, and where the pixels on both sides have the same. */
  read(y) {
    const row = this.rows[(y + this.rows.length) % this.rows.length];
    if (row.y !== y) this.fill(row, y);
    return row;
  }

  fill(row, y) {
    const { map, shown, centre, radius } = this;
    const { ids, isFlat } = row;
    const start = mapRow(this.scene, map, y, 0);
    row.y = y;
    isFlat.fill(0);
    for (let x = 0, run = 0; x < ids.length; x++) {
      const raw = start < 0 || centre[x] < 0 ? 0 : map.ids[start + centre[x]];
      ids[x] = shown[raw] ? raw : 0;
      run = x && ids[x] === ids[x - 1] ? run + 1 : 1;
      if (run > 2 * radius) isFlat[x - radius] = 1;
    }
  }
}

function makeRow(width) {
  return { y: null, ids: new Uint16Array(width), isFlat: new Uint8Array(width) };
}

/** Return how many pixels around one the ring of an outline touches. */
function reach(radius, ratio) {
  return Math.ceil(radius * ratio * RING_REACH);
}

function keepSame(isInside, ids, other) {
  for (let x = 0; x < ids.length; x++) isInside[x] &= other.isFlat[x] & (other.ids[x] === ids[x] ? 1 : 0);
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
  const { map, palette, fills, centre } = side;
  const row = mapRow(scene, map, y, 0);
  if (row < 0) return;
  const rows = (radius) => RING.map(([, dy]) => mapRow(scene, map, y, dy * radius * scene.ratio));
  const narrow = side.narrow && rows(OUTLINE);
  const wide = side.wide && rows(BRIGHT_OUTLINE);
  const isInside = side.interior.find(y);
  for (let x = from; x < to; x++) {
    if (centre[x] < 0) continue;
    const raw = map.ids[row + centre[x]];
    const at = y * out.width + x;
    if (!palette[raw * 4 + 3]) out.mask[at * 4 + 3] = 255;
    if (isInside[x]) out.packed[at] = fills[raw];
    else fillEdge(side, x, raw, narrow, wide, out.colors, at * 4);
  }
}

function fillEdge(side, x, raw, narrow, wide, colors, at) {
  const { palette, shown, look } = side;
  const share = palette[raw * 4 + 3] ? strength(raw, look) : 0;
  put(colors, at, palette, raw, share, findOutline(side, x, shown[raw] ? raw : 0, narrow, wide));
}

/** Return [kind, coverage]: kind 0 nothing, 1 white, 2 dark, 3 the segment's own colour. */
function findOutline(side, x, id, narrow, wide) {
  if (wide) {
    const isLit = id === side.highlighted;
    const [count, touches] = countOthers(side, side.wide, wide, x, id);
    if (isLit) return count ? [1, cover(count)] : NOTHING;
    if (touches) return [2, cover(count) * HALO];
  }
  if (!narrow) return NOTHING;
  const [count] = countOthers(side, side.narrow, narrow, x, id);
  if (!count) return NOTHING;
  return id ? [3, cover(count)] : [2, cover(count) * HALO];
}

const NOTHING = [0, 0];
const cover = (count) => Math.min(count / FULL_OUTLINE, 1);
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

/** Write the colour and the opacity of the segment under its outline. */
function put(colors, at, palette, id, share, [kind, coverage]) {
  const alpha = 1 - (1 - share) * (1 - coverage);
  if (alpha === 0) return;
  for (let channel = 0; channel < 3; channel++) {
    const own = palette[id * 4 + channel];
    const line = kind === 3 ? own + (255 - own) * OUTLINE_WHITE : kind === 1 ? 255 : 0;
    colors[at + channel] = (own * share * (1 - coverage) + line * coverage) / alpha;
  }
  colors[at + 3] = alpha * 255;
}
