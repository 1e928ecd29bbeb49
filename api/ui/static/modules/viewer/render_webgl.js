/**
 * Drawing with WebGL2: the photo, the label map and the palette are textures, and each frame is one program.
 *
 * A change of opacity, colours, highlight or view sends a few numbers; only another photo or label map is uploaded.  After
 * a lost context everything is built again from what the viewer was given.
 */

import { PhotoTextures } from "./photo_textures.js";
import { BLUR, PALETTE_SIDE, SQUARE_PIXELS } from "./scene.js";
import { FRAGMENT, VERTEX } from "./shaders.js";

const BACKGROUNDS = { photo: 0, blur: 1, gray: 2, transparent: 3, dim: 4 };
const UNITS = { photo: 0, overview: 1, leftLabels: 2, rightLabels: 3, leftPalette: 4, rightPalette: 5 };
/** Names of software that stands in for a graphics card; browsers do not call all of it a caveat. */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|basic render|software/i;
/** More pixels of a label map take too long to send at once; it is thinned out to them. */
const MAX_LABEL_PIXELS = 1 << 25;

/**
 * Return a renderer, or null where there is no WebGL2; the canvas cannot be used for anything else then.
 *
 * @param onChange is called when something has to be drawn again
 * @param isSoftwareAllowed Software that stands in for a graphics card takes seconds for a large screen
 */
export function createWebglRenderer(canvas, onChange, { isSoftwareAllowed }) {
  const options = { alpha: true, antialias: false, depth: false, powerPreference: "low-power" };
  const gl = canvas.getContext("webgl2", { ...options, failIfMajorPerformanceCaveat: !isSoftwareAllowed });
  if (!gl) return null;
  if (isSoftwareAllowed || !isSoftware(gl)) return new WebglRenderer(canvas, gl, onChange);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return null;
}

function isSoftware(gl) {
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  return SOFTWARE.test(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
}

class WebglRenderer {
  name = "webgl";

  constructor(canvas, gl, onChange) {
    this.canvas = canvas;
    this.gl = gl;
    this.onChange = onChange;
    this.photo = null;
    this.labels = [null, null];
    this.events = new AbortController();
    const { signal } = this.events;
    // Without preventDefault() a context is never restored.
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault(), { signal });
    canvas.addEventListener("webglcontextrestored", () => this.restore(), { signal });
    this.build();
  }

  build() {
    const { gl } = this;
    this.program = buildProgram(gl);
    this.uniforms = listUniforms(gl, this.program);
    gl.useProgram(this.program);
    gl.disable(gl.BLEND);
    gl.disable(gl.DITHER);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(this.program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    for (const [name, unit] of Object.entries(UNITS)) gl.uniform1i(this.uniforms[name], unit);
    this.textures = new PhotoTextures(gl, this.onChange);
    this.labelTextures = [makeLabelTexture(gl), makeLabelTexture(gl)];
    this.palettes = [makePalette(gl), makePalette(gl)];
    this.nothing = makePalette(gl).texture;
  }

  restore() {
    this.build();
    this.setPhoto(this.photo);
    this.labels.forEach((labels, side) => this.setLabels(side, labels));
    this.onChange();
  }

  get isBusy() {
    return this.textures.isBusy;
  }

  setPhoto(photo) {
    this.photo = photo;
    if (!this.gl.isContextLost()) this.textures.set(photo?.width ? photo : null);
  }

  /** side: 0 left, 1 right. */
  setLabels(side, labels) {
    this.labels[side] = labels;
    if (labels && !this.gl.isContextLost()) uploadLabels(this.gl, this.labelTextures[side], labels);
  }

  /** Nothing is to be computed before a scene is drawn. */
  prepare() {}

  /** Draw a scene at once. */
  draw(scene) {
    const { gl } = this;
    if (gl.isContextLost()) return;
    resizeCanvas(this.canvas, scene);
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!scene.picture) return;
    this.bindTextures(scene);
    this.setScene(scene);
    const { width, height } = scene.picture;
    this.drawArea(this.textures.overview ?? this.nothing, { left: 0, top: 0, width, height }, scene);
    for (const tile of this.textures.select(scene.view, scene.size, scene.ratio)) this.drawArea(tile.texture, tile, scene);
  }

  bindTextures({ sides }) {
    const { gl } = this;
    bind(gl, UNITS.overview, this.textures.overview ?? this.nothing);
    [UNITS.leftLabels, UNITS.rightLabels].forEach((unit, side) => bind(gl, unit, this.labelTextures[side]));
    [UNITS.leftPalette, UNITS.rightPalette].forEach((unit, side) => {
      bind(gl, unit, this.palettes[side].texture);
      if (sides[side]) fillPalette(gl, this.palettes[side], sides[side].palette);
    });
  }

  setScene({ view, ratio, picture, line, opacity, outlines, background, highlighted, theme }) {
    const { gl, uniforms, canvas } = this;
    const bytes = (color) => color.map((value) => value / 255);
    gl.uniform3f(uniforms.view, view.scale * ratio, view.x * ratio, view.y * ratio);
    gl.uniform2f(uniforms.screen, canvas.width, canvas.height);
    gl.uniform2f(uniforms.picture, picture.width, picture.height);
    gl.uniform1f(uniforms.ratio, ratio);
    gl.uniform1i(uniforms.photoIsMissing, this.textures.overview ? 0 : 1);
    gl.uniform2i(uniforms.hasLabels, this.labels[0] ? 1 : 0, this.labels[1] ? 1 : 0);
    gl.uniform1f(uniforms.line, line * ratio);
    gl.uniform1f(uniforms.opacity, opacity);
    gl.uniform1i(uniforms.outlines, outlines ? 1 : 0);
    gl.uniform1i(uniforms.background, BACKGROUNDS[background]);
    gl.uniform1ui(uniforms.highlighted, highlighted);
    gl.uniform3fv(uniforms.lightCheck, bytes(theme.checks[0]));
    gl.uniform3fv(uniforms.darkCheck, bytes(theme.checks[1]));
    gl.uniform3fv(uniforms.emptyColor, bytes(theme.empty));
    const radius = BLUR * Math.max(picture.width, picture.height);
    gl.uniform2f(uniforms.blurRadius, radius / picture.width, radius / picture.height);
    gl.uniform1f(uniforms.blurLevel, Math.max(0, Math.log2((radius * this.textures.scale) / 2)));
  }

  drawArea(texture, { left, top, width, height }, { view, ratio }) {
    const { gl } = this;
    bind(gl, UNITS.photo, texture);
    const filter = view.scale * ratio >= SQUARE_PIXELS * this.sharpness(texture) ? gl.NEAREST : gl.LINEAR;
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
    gl.uniform4f(this.uniforms.area, left, top, width, height);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** Squares of the scaled copy would be no pixels of the photo. */
  sharpness(texture) {
    return texture === this.textures.overview && this.textures.scale < 1 ? Infinity : 1;
  }

  dispose() {
    this.events.abort();
    this.textures.drop();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

/** Give a canvas as many pixels as the screen has for it. */
export function resizeCanvas(canvas, { size, ratio }) {
  const width = Math.max(1, Math.round(size.width * ratio));
  const height = Math.max(1, Math.round(size.height * ratio));
  // Setting a size clears the canvas, even if it is the same.
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

function buildProgram(gl) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`The program of the viewer was refused: ${gl.getProgramInfoLog(program)} ${logs.join(" ")}`);
  }
  return program;
}

function listUniforms(gl, program) {
  const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) ?? 0;
  const names = Array.from({ length: count }, (_, index) => gl.getActiveUniform(program, index).name);
  return Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)]));
}

function bind(gl, unit, texture) {
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.bindTexture(gl.TEXTURE_2D, texture);
}

function makeTexture(gl) {
  const texture = gl.createTexture();
  bind(gl, UNITS.photo, texture);
  // Ids must not be mixed.
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return texture;
}

function makeLabelTexture(gl) {
  const texture = makeTexture(gl);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8UI, 1, 1, 0, gl.RED_INTEGER, gl.UNSIGNED_BYTE, new Uint8Array(1));
  return texture;
}

function makePalette(gl) {
  const texture = makeTexture(gl);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, PALETTE_SIDE, PALETTE_SIDE, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
  return { texture, content: null };
}

/** Send a palette if it is another one; the texture is bound. */
function fillPalette(gl, palette, content) {
  if (palette.content === content) return;
  palette.content = content;
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, PALETTE_SIDE, PALETTE_SIDE, gl.RGBA, gl.UNSIGNED_BYTE, content);
}

function uploadLabels(gl, texture, labels) {
  const { width, height, ids } = thinOut(labels, gl.getParameter(gl.MAX_TEXTURE_SIZE));
  const isWide = ids instanceof Uint16Array;
  const type = isWide ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE;
  bind(gl, UNITS.photo, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, isWide ? gl.R16UI : gl.R8UI, width, height, 0, gl.RED_INTEGER, type, ids);
}

/** Return a label map that fits into a texture: the same, or every n-th of its pixels. */
function thinOut(labels, largest) {
  const { width, height, ids } = labels;
  const excess = Math.max(Math.sqrt((width * height) / MAX_LABEL_PIXELS), width / largest, height / largest);
  if (excess <= 1) return labels;
  const thin = { width: Math.floor(width / excess), height: Math.floor(height / excess) };
  thin.ids = new ids.constructor(thin.width * thin.height);
  for (let y = 0, at = 0; y < thin.height; y++) {
    const row = Math.floor(((y + 0.5) * height) / thin.height) * width;
    for (let x = 0; x < thin.width; x++, at++) thin.ids[at] = ids[row + Math.floor(((x + 0.5) * width) / thin.width)];
  }
  return thin;
}
