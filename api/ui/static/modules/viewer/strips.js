/** Scaled copies of large photos, made of some rows at a time: all at once would stop the page. */

import { giveWay } from "./turns.js";

/** Rows of the copy that are made at once. */
const STRIP = 128;

/**
 * Make a scaled copy of an ImageBitmap.
 *
 * @param size { width, height } of the copy
 * @param take (strip, top) gets each part, an ImageBitmap that is closed afterwards, and the row where it begins
 * @param isWanted () -> whether to go on
 * @returns whether all of it was made
 */
export async function scaleInStrips(photo, size, take, isWanted) {
  for (let top = 0; top < size.height && isWanted(); top += STRIP) {
    const strip = await scaleStrip(photo, size, top).catch(() => null);
    if (strip && isWanted()) take(strip, top);
    strip?.close();
    await giveWay();
  }
  return isWanted();
}

/** Return rows of the photo, scaled to a size, from a row of the scaled photo on. */
function scaleStrip(photo, { width, height }, top) {
  const rows = Math.min(STRIP, height - top);
  const first = Math.round((top * photo.height) / height);
  const last = Math.round(((top + rows) * photo.height) / height);
  const options = { resizeWidth: width, resizeHeight: rows, resizeQuality: "medium" };
  return createImageBitmap(photo, 0, first, photo.width, Math.max(1, last - first), options);
}
