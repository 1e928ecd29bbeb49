/**
 * Cut-outs: segments at the photo's own resolution, as a PNG that is transparent elsewhere.
 *
 * A pixel is either whole or transparent, by the label map; it is done in strips of rows, so that a photo of many
 * megapixels does not stop the page.
 */

import { giveWay } from "./turns.js";

const STRIP_PIXELS = 1 << 20;

/** There is nothing to cut out. */
export class NothingToCutOut extends Error {
  name = "NothingToCutOut";
  errorType = "nothing_to_cut_out";
}

/**
 * Return a PNG.
 *
 * @param photo ImageBitmap
 * @param labels { width, height, ids }; it may be smaller than the photo
 * @param ids of the segments
 * @param crop to the segments, instead of the whole photo
 * @throws NothingToCutOut
 */
export async function cutOut(photo, labels, ids, { crop = true } = {}) {
  const isChosen = markIds(ids);
  const picture = { width: photo.width, height: photo.height };
  const box = await findBox(labels, isChosen, picture);
  if (!box) throw new NothingToCutOut("No pixel of the photo belongs to these segments.");
  const area = crop ? box : { left: 0, top: 0, ...picture };
  const canvas = new OffscreenCanvas(area.width, area.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rows = Math.max(1, Math.floor(STRIP_PIXELS / area.width));
  for (let top = 0; top < area.height; top += rows) {
    const strip = { ...area, top: area.top + top, height: Math.min(rows, area.height - top) };
    drawStrip(context, photo, strip, top);
    eraseOthers(context, labels, isChosen, picture, strip, top);
    await giveWay();
  }
  return canvas.convertToBlob({ type: "image/png" });
}

function markIds(ids) {
  const isChosen = new Uint8Array(1 << 16);
  for (const id of ids) isChosen[id] = 1;
  isChosen[0] = 0;
  return isChosen;
}

function drawStrip(context, photo, { left, top, width, height }, to) {
  context.drawImage(photo, left, top, width, height, 0, to, width, height);
}

function eraseOthers(context, labels, isChosen, picture, { left, top, width, height }, to) {
  const image = context.getImageData(0, to, width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const columns = mapToLabels(left, width, picture.width, labels.width);
  const rows = mapToLabels(top, height, picture.height, labels.height);
  for (let y = 0, at = 0; y < height; y++) {
    const row = rows[y] * labels.width;
    for (let x = 0; x < width; x++, at++) if (!isChosen[labels.ids[row + columns[x]]]) pixels[at] = 0;
  }
  context.putImageData(image, 0, to);
}

/** Return for `count` pixels of the photo from `first` on the nearest pixel of the label map, along one side. */
function mapToLabels(first, count, length, labelLength) {
  return Uint32Array.from({ length: count }, (_, index) => Math.floor(((first + index + 0.5) * labelLength) / length));
}

/** Return the smallest rectangle of the photo around the segments, or null. */
async function findBox(labels, isChosen, picture) {
  const found = await findLabelBox(labels, isChosen);
  if (!found) return null;
  const [left, right] = stretch(found.left, found.right, picture.width, labels.width);
  const [top, bottom] = stretch(found.top, found.bottom, picture.height, labels.height);
  return right > left && bottom > top ? { left, top, width: right - left, height: bottom - top } : null;
}

/** Return the pixels of the photo, first and behind the last, that belong to pixels of the label map. */
function stretch(first, last, length, labelLength) {
  const nearest = mapToLabels(0, length, length, labelLength);
  const start = nearest.findIndex((index) => index >= first);
  const end = nearest.findIndex((index) => index > last);
  return [start === -1 ? length : start, end === -1 ? length : end];
}

async function findLabelBox({ width, height, ids }, isChosen) {
  const box = { left: width, top: height, right: -1, bottom: -1 };
  const rows = Math.max(1, Math.floor((8 * STRIP_PIXELS) / width));
  for (let y = 0; y < height; y++) {
    const [first, last] = findInRow(ids, y * width, width, isChosen);
    if (y % rows === rows - 1) await giveWay();
    if (last < 0) continue;
    box.left = Math.min(box.left, first);
    box.right = Math.max(box.right, last);
    box.top = Math.min(box.top, y);
    box.bottom = y;
  }
  return box.bottom < 0 ? null : box;
}

function findInRow(ids, start, width, isChosen) {
  let first = 0;
  while (first < width && !isChosen[ids[start + first]]) first++;
  if (first === width) return [width, -1];
  let last = width - 1;
  while (!isChosen[ids[start + last]]) last--;
  return [first, last];
}
