/** The element of the viewer: its canvas, what it is for a screen reader, and its colours. */

import { createCanvasRenderer } from "./render_canvas.js";
import { createWebglRenderer } from "./render_webgl.js";

const LABEL = "Photo with its segments. Arrow keys move it, plus and minus zoom, 0 shows the whole photo.";

/** Make an element one that is looked at and moved with the keyboard. */
export function prepareElement(element) {
  element.classList.add("viewer");
  // An image would get no arrow keys of a screen reader's user.
  if (!element.hasAttribute("role")) element.setAttribute("role", "application");
  if (!element.hasAttribute("aria-label")) element.setAttribute("aria-label", LABEL);
  if (!element.hasAttribute("tabindex")) element.tabIndex = 0;
}

/** Add a canvas, and return it with its renderer. */
export function addRenderer(element, wanted, onChange) {
  const found = wanted === "canvas" ? null : addWebgl(element, { isSoftwareAllowed: wanted === "webgl" }, onChange);
  element.dataset.renderer = found ? "webgl" : "canvas";
  if (found) return found;
  const canvas = addCanvas(element);
  return [canvas, createCanvasRenderer(canvas, onChange)];
}

function addWebgl(element, options, onChange) {
  const canvas = addCanvas(element);
  const renderer = createWebglRenderer(canvas, onChange, options);
  if (renderer) return [canvas, renderer];
  canvas.remove();
  return null;
}

function addCanvas(element) {
  const canvas = document.createElement("canvas");
  canvas.className = "viewer__canvas";
  canvas.setAttribute("aria-hidden", "true");
  element.append(canvas);
  return canvas;
}

/** Return the colours that viewer.css gives. */
export function readTheme(element) {
  const style = getComputedStyle(element);
  const read = (name, otherwise) => (style.getPropertyValue(name).match(/\d+/g) ?? otherwise).map(Number);
  const checks = [read("--viewer-check-light", [255, 255, 255]), read("--viewer-check-dark", [228, 228, 226])];
  return { checks, empty: read("--viewer-empty", [236, 236, 232]) };
}
