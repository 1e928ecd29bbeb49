/**
 * Geometry of the view: where the picture is on the screen.  Pure functions of values.
 *
 * A view is { scale, x, y }: a point of the picture (in its pixels, from its top left corner) is at
 * point * scale + (x, y) in the element (in CSS pixels).  A size is { width, height }, a point { x, y }; that of an element
 * may have `ratio`, the device pixels for one of its own.
 */

/** The largest number of CSS pixels for one pixel of the picture. */
export const MAX_SCALE = 64;
/** Two scales that differ by less of themselves are the same. */
const TOLERANCE = 1e-4;

/** Return the view that shows the whole picture, centred; a small picture is enlarged to at most `largest`. */
export function fit(element, picture, largest = 4) {
  const { width, height } = element;
  const scale = Math.min(Math.max(width, 1) / picture.width, Math.max(height, 1) / picture.height, largest);
  return centre(element, picture, scale);
}

function centre(element, picture, scale) {
  return { scale, x: (element.width - picture.width * scale) / 2, y: (element.height - picture.height * scale) / 2 };
}

/** Return the nearest view that is allowed: see clampScale(), and without a gap that could be filled. */
export function clamp(view, element, picture) {
  const scale = clampScale(view.scale, element, picture);
  // The point in the middle of the element stays there.
  const middle = toPicture(view, { x: element.width / 2, y: element.height / 2 });
  const moved = scale === view.scale ? view : place(middle, { x: element.width / 2, y: element.height / 2 }, scale);
  return {
    scale,
    x: clampOffset(moved.x, element.width, picture.width * scale),
    y: clampOffset(moved.y, element.height, picture.height * scale),
  };
}

/** Return the nearest scale that is allowed: no smaller than the whole picture or its pixels, whichever is smaller. */
function clampScale(scale, element, picture) {
  const whole = fit(element, picture).scale;
  return Math.min(Math.max(scale, Math.min(whole, scaleOfPixels(element))), Math.max(MAX_SCALE, whole));
}

/** Return the scale at which one pixel of the picture is one of the screen. */
function scaleOfPixels({ ratio = 1 }) {
  return 1 / ratio;
}

function clampOffset(offset, free, length) {
  if (length <= free) return (free - length) / 2;
  return Math.min(Math.max(offset, free - length), 0);
}

/** Return the view in which a point of the picture is at a point of the screen. */
function place(point, screen, scale) {
  return { scale, x: screen.x - point.x * scale, y: screen.y - point.y * scale };
}

/** Return the view enlarged by a factor; what is at the point of the screen stays there as far as clamp() allows. */
export function zoomAt(view, factor, screen, element, picture) {
  const scale = clampScale(view.scale * factor, element, picture);
  return clamp(place(toPicture(view, screen), screen, scale), element, picture);
}

/** Return the view moved by CSS pixels. */
export function pan(view, dx, dy, element, picture) {
  return clamp({ ...view, x: view.x + dx, y: view.y + dy }, element, picture);
}

/** Return the view in which one pixel of the picture is one of the screen, whose middle stays. */
export function showPixels(view, element, picture) {
  const middle = { x: element.width / 2, y: element.height / 2 };
  return zoomAt(view, scaleOfPixels(element) / view.scale, middle, element, picture);
}

/** Return the view after the element's size has changed: the middle stays, and a view that was fit() stays so. */
export function resize(view, before, element, picture) {
  const wasFit = Math.abs(view.scale / fit(before, picture).scale - 1) < TOLERANCE;
  if (wasFit) return fit(element, picture);
  const point = toPicture(view, { x: before.width / 2, y: before.height / 2 });
  return clamp(place(point, { x: element.width / 2, y: element.height / 2 }, view.scale), element, picture);
}

/** Return whether the whole picture is shown. */
export function isFit(view, element, picture) {
  return view.scale <= fit(element, picture).scale * (1 + TOLERANCE);
}

/** Return the point of the picture at a point of the screen. */
export function toPicture(view, { x, y }) {
  return { x: (x - view.x) / view.scale, y: (y - view.y) / view.scale };
}

/** Return the point of the screen at a point of the picture. */
export function toScreen(view, { x, y }) {
  return { x: x * view.scale + view.x, y: y * view.scale + view.y };
}

/**
 * Return the id at a point of the picture, 0 outside.
 *
 * The label map may be smaller than the picture: a pixel belongs to the nearest pixel of the map, as the service's own
 * previews are made.
 */
export function labelAt(labels, picture, { x, y }) {
  if (!labels || x < 0 || y < 0 || x >= picture.width || y >= picture.height) return 0;
  const column = Math.floor((x * labels.width) / picture.width);
  const row = Math.floor((y * labels.height) / picture.height);
  return labels.ids[row * labels.width + column];
}
