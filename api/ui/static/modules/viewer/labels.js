/**
 * Decoding of labels.png to the label map itself.
 *
 * The service writes a greyscale PNG of 8 or 16 bits, not interlaced, where the value of a pixel is the id of its
 * segment.  A canvas gives 8 bits and may convert colours, so the file is decoded here: chunks, zlib by
 * DecompressionStream, the five row filters.  Long files are decoded in short slices, so that the page stays quick.
 * No DOM here.
 */

import { giveWay } from "./turns.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GREYSCALE = 0;
/** Of a label map; the largest photo that the service takes by default has fewer. */
const MAX_PIXELS = 1 << 28;
const SLICE_MS = 6;
/** Of compressed data; what is written at once is inflated at once, to a hundred times as much at most. */
const PIECE_BYTES = 1 << 13;

/** What was given is no label map. */
export class NotALabelMap extends Error {
  name = "NotALabelMap";
}

/**
 * Return { width, height, ids }: ids is a Uint8Array or Uint16Array of width x height, row by row; 0 is no segment.
 *
 * @param source Blob, Uint8Array, or string in base64: a PNG of 8 or 16 bits grey
 * @throws NotALabelMap
 */
export async function decodeLabels(source) {
  const file = await readBytes(source);
  const { header, data } = readChunks(file);
  const rows = new Rows(header);
  try {
    await inflate(data, rows);
  } catch (error) {
    throw error instanceof NotALabelMap ? error : new NotALabelMap(`The label map is damaged: ${error.message}`);
  }
  return { width: header.width, height: header.height, ids: rows.finish() };
}

async function readBytes(source) {
  if (source instanceof Uint8Array) return source;
  if (typeof source !== "string") return new Uint8Array(await source.arrayBuffer());
  try {
    // No fetch() of a data: URL, which the page's policy refuses.
    return readBase64(source);
  } catch {
    throw new NotALabelMap("The label map is no base64");
  }
}

function readBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/** Return the header and the parts of the compressed data. */
function readChunks(file) {
  if (SIGNATURE.some((byte, index) => file[index] !== byte)) throw new NotALabelMap("The label map is no PNG");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const data = [];
  let header = null;
  for (let start = 8; start + 12 <= file.length; ) {
    const length = view.getUint32(start);
    const type = String.fromCharCode(...file.subarray(start + 4, start + 8));
    const end = start + 8 + length;
    if (end + 4 > file.length) throw new NotALabelMap("The label map ends early");
    // The sums of chunks are not checked, as the compressed data has a sum of its own.
    if (type === "IHDR") header = readHeader(view, start + 8, length);
    if (type === "IDAT") data.push(file.subarray(start + 8, end));
    if (type === "IEND") break;
    start = end + 4;
  }
  if (!header || !data.length) throw new NotALabelMap("The label map has no pixels");
  return { header, data };
}

function readHeader(view, start, length) {
  if (length !== 13) throw new NotALabelMap("The label map has no header");
  const width = view.getUint32(start);
  const height = view.getUint32(start + 4);
  const depth = view.getUint8(start + 8);
  const isGrey = view.getUint8(start + 9) === GREYSCALE && (depth === 8 || depth === 16);
  const isInterlaced = view.getUint8(start + 12) !== 0;
  if (!isGrey || isInterlaced) throw new NotALabelMap("The label map is not greyscale of 8 or 16 bits");
  if (!width || !height || width * height > MAX_PIXELS) throw new NotALabelMap("The label map is too large");
  return { width, height, bytes: depth / 8 };
}

async function inflate(parts, rows) {
  const stream = new DecompressionStream("deflate");
  write(stream.writable.getWriter(), parts);
  const reader = stream.readable.getReader();
  try {
    let sliceEnd = performance.now() + SLICE_MS;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      rows.add(piece.value);
      if (performance.now() < sliceEnd) continue;
      await giveWay();
      sliceEnd = performance.now() + SLICE_MS;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Write the compressed data: not from a Blob, as its bytes would take the way through another process. */
async function write(writer, parts) {
  try {
    for (const part of parts) {
      for (let start = 0; start < part.length; start += PIECE_BYTES) {
        await writer.write(part.subarray(start, start + PIECE_BYTES));
      }
    }
    await writer.close();
  } catch {
    // The reader has the same error, or has ended this.
  }
}

/** Rows of the picture, of which the bytes come in pieces of any length. */
class Rows {
  constructor({ width, height, bytes }) {
    this.width = width;
    this.height = height;
    this.bytes = bytes;
    this.ids = bytes === 1 ? new Uint8Array(width * height) : new Uint16Array(width * height);
    this.row = new Uint8Array(1 + width * bytes);
    this.former = new Uint8Array(1 + width * bytes);
    this.filled = 0;
    this.count = 0;
  }

  add(piece) {
    for (let taken = 0; taken < piece.length; ) {
      if (this.count === this.height) throw new NotALabelMap("The label map has too many rows");
      const part = piece.subarray(taken, taken + this.row.length - this.filled);
      this.row.set(part, this.filled);
      this.filled += part.length;
      taken += part.length;
      if (this.filled === this.row.length) this.finishRow();
    }
  }

  finishRow() {
    const filter = FILTERS[this.row[0]];
    if (!filter) throw new NotALabelMap("The label map has an unknown filter");
    filter(this.row, this.former, this.bytes);
    const start = this.count * this.width;
    if (this.bytes === 1) this.ids.set(this.row.subarray(1), start);
    else for (let x = 0, at = 1; x < this.width; x++, at += 2) this.ids[start + x] = (this.row[at] << 8) | this.row[at + 1];
    [this.row, this.former] = [this.former, this.row];
    this.filled = 0;
    this.count++;
  }

  finish() {
    if (this.count < this.height) throw new NotALabelMap("The label map has too few rows");
    return this.ids;
  }
}

/**
 * By number, as in section 9 of the PNG specification; each changes the row in place.
 *
 * Index 0 of a row is the number of its filter.  bytes: of a pixel.
 */
const FILTERS = [
  () => {},
  (row, _, bytes) => {
    for (let at = 1 + bytes; at < row.length; at++) row[at] += row[at - bytes];
  },
  (row, former) => {
    for (let at = 1; at < row.length; at++) row[at] += former[at];
  },
  (row, former, bytes) => {
    for (let at = 1; at < row.length; at++) row[at] += ((at > bytes ? row[at - bytes] : 0) + former[at]) >> 1;
  },
  (row, former, bytes) => {
    for (let at = 1; at < row.length; at++) {
      const hasLeft = at > bytes;
      row[at] += predict(hasLeft ? row[at - bytes] : 0, former[at], hasLeft ? former[at - bytes] : 0);
    }
  },
];

/** Paeth's predictor: the neighbour that is nearest to left + above - corner. */
function predict(left, above, corner) {
  const toLeft = Math.abs(above - corner);
  const toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
