/** Small pictures of photos for the gallery: of the file where the page has it, of the label map otherwise. */

const SIDE = 192;

/** Return { thumbnail: URL of an object, image: { width, height } } of a photo; throws if the browser cannot read it. */
export async function drawThumbnail(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const image = { width: bitmap.width, height: bitmap.height };
  const canvas = createSquare();
  const scale = SIDE / Math.min(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  bitmap.close();
  return { thumbnail: await store(canvas), image };
}

/** Return the same of a label map { width, height, ids }; colorOf(id) gives [r, g, b]. */
export async function drawLabelThumbnail(labels, colorOf) {
  const canvas = createSquare();
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  const step = Math.min(labels.width, labels.height) / SIDE;
  const [left, top] = [(labels.width - step * SIDE) / 2, (labels.height - step * SIDE) / 2];
  for (let y = 0; y < SIDE; y += 1) {
    const row = Math.min(labels.height - 1, Math.floor(top + (y + 0.5) * step)) * labels.width;
    for (let x = 0; x < SIDE; x += 1) {
      const id = labels.ids[row + Math.min(labels.width - 1, Math.floor(left + (x + 0.5) * step))];
      if (id) pixels.data.set([...colorOf(id), 255], 4 * (y * SIDE + x));
    }
  }
  context.putImageData(pixels, 0, 0);
  return { thumbnail: await store(canvas, "image/png") };
}

function createSquare() {
  const canvas = document.createElement("canvas");
  canvas.width = SIDE;
  canvas.height = SIDE;
  return canvas;
}

function store(canvas, type = "image/jpeg") {
  return new Promise((succeed, fail) => {
    canvas.toBlob((blob) => (blob ? succeed(URL.createObjectURL(blob)) : fail(new Error("No picture."))), type, 0.85);
  });
}
