/** Draws the small picture of a photo; it runs in a worker, or where there is none, in the page. */

export const SIDE = 192;

/** Return { blob, image: { width, height } } of a photo; throws if the browser cannot read it. */
export async function drawSquare(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const image = { width: bitmap.width, height: bitmap.height };
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const scale = SIDE / Math.min(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  bitmap.close();
  return { blob: await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }), image };
}
