/**
 * The photo on the graphics card: one small texture of all of it, and tiles at its full resolution where they are seen.
 *
 * A photo of a few megapixels is one texture.  Of a larger one a scaled copy is kept, and tiles are sent one a frame
 * when the view is closer than the copy is sharp; the tiles that were not seen for longest are dropped.
 */

import { scaleInStrips } from "./strips.js";

const OVERVIEW_PIXELS = 1 << 22;
const TILE = 1024;
const MAX_TILES = 48;

export class PhotoTextures {
  /** @param onChange is called when more of the photo is there */
  constructor(gl, onChange) {
    this.gl = gl;
    this.onChange = onChange;
    this.tiles = new Map();
    this.overview = null;
    this.photo = null;
    this.scale = 1;
    this.isLoading = false;
  }

  /** Use an ImageBitmap, or none. */
  set(photo) {
    this.drop();
    this.photo = photo;
    if (!photo) return;
    const largest = this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
    const pixels = photo.width * photo.height;
    this.scale = Math.min(1, Math.sqrt(OVERVIEW_PIXELS / pixels), largest / Math.max(photo.width, photo.height));
    if (this.scale === 1) this.overview = this.upload(photo);
    else this.loadOverview(photo);
  }

  get isBusy() {
    return this.isLoading || Boolean(this.photo && !this.overview);
  }

  async loadOverview(photo) {
    const width = Math.max(1, Math.round(photo.width * this.scale));
    const height = Math.max(1, Math.round(photo.height * this.scale));
    const texture = this.makeEmpty(width, height);
    const isWanted = () => this.photo === photo && !this.gl.isContextLost();
    const isDone = await scaleInStrips(photo, { width, height }, (strip, top) => this.uploadStrip(texture, strip, top), isWanted);
    if (!isDone) return this.gl.deleteTexture(texture);
    this.finish(texture);
    this.overview = texture;
    return this.onChange();
  }

  makeEmpty(width, height) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    return texture;
  }

  uploadStrip(texture, strip, top) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, top, gl.RGBA, gl.UNSIGNED_BYTE, strip);
  }

  /** Return the tiles to draw over the overview: [{ texture, left, top, width, height }]; missing ones come later. */
  select(view, size, ratio) {
    if (!this.photo || this.scale === 1 || view.scale * ratio <= this.scale * 1.1) return [];
    const wanted = listTiles(this.photo, view, size);
    const missing = wanted.find((tile) => !this.tiles.has(tile.key));
    if (missing && this.overview) this.loadTile(missing);
    const found = wanted.filter((tile) => this.tiles.has(tile.key)).map(({ key }) => this.use(key));
    return found;
  }

  /** Return a tile, as the one that was used last. */
  use(key) {
    const tile = this.tiles.get(key);
    this.tiles.delete(key);
    this.tiles.set(key, tile);
    return tile;
  }

  async loadTile({ key, left, top, width, height }) {
    if (this.isLoading) return;
    this.isLoading = true;
    const photo = this.photo;
    const part = await createImageBitmap(photo, left, top, width, height).catch(() => null);
    this.isLoading = false;
    if (part && this.photo === photo && !this.gl.isContextLost()) {
      this.tiles.set(key, { texture: this.upload(part), left, top, width, height });
      this.dropOldest();
      this.onChange();
    }
    part?.close();
  }

  dropOldest() {
    while (this.tiles.size > MAX_TILES) {
      const [key, { texture }] = this.tiles.entries().next().value;
      this.gl.deleteTexture(texture);
      this.tiles.delete(key);
    }
  }

  upload(image) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
    this.finish(texture);
    return texture;
  }

  /** Make the small sizes of a texture, and let it be sampled smoothly. */
  finish(texture) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  }

  drop() {
    for (const { texture } of this.tiles.values()) this.gl.deleteTexture(texture);
    this.tiles.clear();
    this.gl.deleteTexture(this.overview);
    this.overview = null;
    this.photo = null;
  }
}

/** Return the tiles that the view shows, those in the middle first. */
function listTiles(photo, view, size) {
  const first = (offset) => Math.max(0, Math.floor(-offset / view.scale / TILE));
  const last = (offset, length, free) => Math.min(Math.ceil(length / TILE), Math.ceil((free - offset) / view.scale / TILE));
  const tiles = [];
  for (let row = first(view.y); row < last(view.y, photo.height, size.height); row++) {
    for (let column = first(view.x); column < last(view.x, photo.width, size.width); column++) {
      tiles.push(cutTile(photo, column * TILE, row * TILE));
    }
  }
  const centre = { x: (size.width / 2 - view.x) / view.scale, y: (size.height / 2 - view.y) / view.scale };
  const distance = (tile) => Math.hypot(tile.left + tile.width / 2 - centre.x, tile.top + tile.height / 2 - centre.y);
  return tiles.sort((one, other) => distance(one) - distance(other)).slice(0, MAX_TILES);
}

function cutTile(photo, left, top) {
  const width = Math.min(TILE, photo.width - left);
  const height = Math.min(TILE, photo.height - top);
  return { key: `${left},${top}`, left, top, width, height };
}
