/** Small pictures of photos for the gallery: of the file where the page has it, of the label map otherwise. */

import { drawSquare, SIDE } from "./thumbnail-drawing.js";

let worker = null;
let canWork = typeof Worker !== "undefined";

/**
 * Return { thumbnail: URL of an object, image: { width, height } } of a photo; throws if the browser cannot read it.
 *
 * One at a time: the next may be drawn once this has ended.
 */
export async function drawThumbnail(file) {
  const { drawn, fault } = (canWork && (await askWorker(file))) || { drawn: await drawSquare(file) };
  if (fault) throw Object.assign(new Error("The photo cannot be read."), { name: fault });
  return { thumbnail: URL.createObjectURL(drawn.blob), image: drawn.image };
}

/** Let a worker draw, because a photo of many megapixels would stop the page for a moment; null: it has failed. */
function askWorker(file) {
  return new Promise((succeed) => {
    worker ??= new Worker(new URL("thumbnail-worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => succeed(data);
    worker.onerror = () => {
      canWork = false;
      succeed(null);
    };
    worker.postMessage(file);
  });
}

/** Return the same of a label map { width, height, ids }; getColor(id) gives [r, g, b]. */
export async function drawLabelThumbnail(labels, getColor) {
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  const step = Math.min(labels.width, labels.height) / SIDE;
  const [left, top] = [(labels.width - step * SIDE) / 2, (labels.height - step * SIDE) / 2];
  for (let y = 0; y < SIDE; y += 1) {
    const row = Math.min(labels.height - 1, Math.floor(top + (y + 0.5) * step)) * labels.width;
    for (let x = 0; x < SIDE; x += 1) {
      const id = labels.ids[row + Math.min(labels.width - 1, Math.floor(left + (x + 0.5) * step))];
      if (id) pixels.data.set([...getColor(id), 255], 4 * (y * SIDE + x));
    }
  }
  context.putImageData(pixels, 0, 0);
  return { thumbnail: URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" })) };
}
