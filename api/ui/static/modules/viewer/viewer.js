/**
 * The picture of a result: the photo with its segments in colour, to be zoomed, panned and pointed at.
 *
 * createViewer(element, { onHover, onSelect, onView }) fills an element and returns the viewer.  onHover(id | null) and
 * onSelect(id | null) tell the segment under the pointer and the one that was clicked (null: what lies beside segments,
 * the isolated one again, or the Escape key); onView(view) tells { scale, x, y, isFit }.  The viewer isolates and
 * highlights only what it is told to.  Keys: arrows, + and -, 0 for the whole photo, 1 for its pixels, Escape.
 *
 * Segments are drawn from the label map by WebGL2 (render_webgl.js) or, without it, by render_canvas.js.  A frame is drawn
 * only after something has changed.  Colours of checks and of a missing photo are custom properties in viewer.css.
 */

import { cutOut, NothingToCutOut } from "./cutout.js";
import { watchGestures } from "./gestures.js";
import { addRenderer, prepareElement, readTheme } from "./element.js";
import { buildPalette } from "./scene.js";
import * as geometry from "./view.js";

const STYLE = { opacity: 0.5, outlines: true, background: "photo", visible: null };

/** @param renderer "auto", "canvas" to do without WebGL, "webgl" to do it even without a graphics card */
export function createViewer(element, callbacks = {}, { renderer = "auto" } = {}) {
  return new Viewer(element, callbacks, renderer);
}

class Viewer {
  constructor(element, { onHover = ignore, onSelect = ignore, onView = ignore }, renderer) {
    this.element = element;
    this.told = { onHover, onSelect, onView };
    this.photo = null;
    this.labels = null;
    this.segments = [];
    this.compared = null;
    this.style = STYLE;
    this.highlighted = 0;
    this.isolated = null;
    this.hovered = null;
    this.size = { width: 0, height: 0, ratio: 1 };
    this.view = null;
    this.frame = 0;
    this.isPreparing = false;
    // Read once: reading a style makes the browser compute the styles of the page.
    this.theme = null;
    prepareElement(element);
    [this.canvas, this.renderer] = addRenderer(element, renderer, () => this.change());
    this.watch();
  }

  watch() {
    this.stopGestures = watchGestures(this.element, {
      pan: (dx, dy) => this.panBy(dx, dy),
      zoom: (factor, point) => this.zoomAt(factor, point),
      fit: () => this.fit(),
      pixels: () => this.zoomToPixels(),
      hover: (point) => this.hover(point),
      choose: (point) => this.choose(point),
      leave: () => this.told.onSelect(null),
    });
    this.resizes = new ResizeObserver(() => this.resize());
    this.resizes.observe(this.element);
    this.events = new AbortController();
    const { signal } = this.events;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.changeTheme(), { signal });
    // A window moved to another screen, or the zoom of the browser.
    window.addEventListener("resize", () => this.resize(), { signal });
    this.resize();
  }

  /** @param photo ImageBitmap, upright, or null; it stays the caller's, who closes it after another one is set */
  setPhoto(photo) {
    this.keepPlace(() => (this.photo = photo));
    this.renderer.setPhoto(photo);
  }

  /** @param labels { width, height, ids } or null; it may be smaller than the photo, of which it shows all */
  setLabels(labels) {
    // An id may be another thing now, and is told again.
    this.hovered = null;
    this.keepPlace(() => (this.labels = labels));
    this.renderer.setLabels(0, labels);
  }

  /** @param segments [{ id, color: [red, green, blue], ... }] */
  setSegments(segments) {
    this.segments = segments ?? [];
    this.paint();
  }

  /** Change opacity, outlines, background or visible; what is not given stays. */
  setStyle(style) {
    this.style = { ...this.style, ...style };
    this.paint();
  }

  highlight(id) {
    if (this.highlighted === (id ?? 0)) return;
    this.highlighted = id ?? 0;
    this.change();
  }

  isolate(id) {
    // What has not changed is not computed again.
    if (this.isolated === (id ?? null)) return;
    this.isolated = id ?? null;
    this.paint();
  }

  /** Show another label map right of a line; position is a share of the element's width.  null ends it. */
  compareWith(labels, segments, position) {
    if (labels !== (this.compared?.labels ?? null)) this.renderer.setLabels(1, labels);
    const isSame = labels && segments === this.compared?.segments;
    const palette = isSame ? this.compared.palette : labels && buildPalette(segments);
    this.compared = labels && { labels, segments, position, palette };
    this.paint();
  }

  zoomBy(factor) {
    this.zoomAt(factor);
  }

  zoomAt(factor, point = { x: this.size.width / 2, y: this.size.height / 2 }) {
    this.setView((picture) => geometry.zoomAt(this.view, factor, point, this.size, picture));
  }

  panBy(dx, dy) {
    this.setView((picture) => geometry.pan(this.view, dx, dy, this.size, picture));
  }

  fit() {
    this.setView((picture) => geometry.fit(this.size, picture));
  }

  /** Show one pixel of the photo as one of the screen. */
  zoomToPixels() {
    this.setView((picture) => geometry.showPixels(this.view, this.size, picture));
  }

  /**
   * Return a PNG of segments at the photo's resolution, transparent elsewhere.
   *
   * @throws NothingToCutOut (in its promise)
   */
  async cutOut({ ids, crop = true }) {
    if (!this.photo?.width) throw new NothingToCutOut("There is no photo to cut from.");
    if (!this.labels) throw new NothingToCutOut("There are no segments yet.");
    return cutOut(this.photo, this.labels, ids, { crop });
  }

  dispose() {
    cancelAnimationFrame(this.frame);
    this.isDisposed = true;
    this.stopGestures();
    this.resizes.disconnect();
    this.events.abort();
    this.renderer.dispose();
    this.canvas.remove();
  }

  /** Whether more of the picture is being computed or sent, or a frame is to come. */
  get isBusy() {
    return this.frame !== 0 || this.renderer.isBusy;
  }

  /** How many device pixels the longer side of the whole picture has, as it is shown; 0 if nothing is. */
  get shownSide() {
    const { picture, view } = this;
    return picture && view ? Math.max(picture.width, picture.height) * view.scale * this.size.ratio : 0;
  }

  get picture() {
    const source = this.photo?.width ? this.photo : this.labels;
    return source && { width: source.width, height: source.height };
  }

  /** Change the picture; a view of one of the same size stays. */
  keepPlace(change) {
    const before = this.picture;
    change();
    const { picture } = this;
    const isSame = before?.width === picture?.width && before?.height === picture?.height;
    if (picture && !(isSame && this.view)) this.view = geometry.fit(this.size, picture);
    this.paint();
  }

  setView(compute) {
    if (!this.picture || !this.view) return;
    this.view = compute(this.picture);
    this.change();
  }

  resize() {
    const before = this.size;
    this.size = { width: this.element.clientWidth, height: this.element.clientHeight, ratio: devicePixelRatio };
    if (this.picture && this.view) this.view = geometry.resize(this.view, before, this.size, this.picture);
    // A canvas whose size changes is empty until it is drawn, which would be seen.
    this.draw();
  }

  changeTheme() {
    this.theme = null;
    this.change();
  }

  /** Take over what decides the colours. */
  paint() {
    this.palette = null;
    this.change();
    this.prepare();
  }

  /** Let the renderer begin before the next frame of the screen, as soon as all is given that changes together. */
  prepare() {
    if (this.isPreparing) return;
    this.isPreparing = true;
    queueMicrotask(() => {
      this.isPreparing = false;
      if (!this.isDisposed && this.size.width && this.size.height) this.renderer.prepare(this.describeScene());
    });
  }

  /** Draw with the next frame of the screen. */
  change() {
    if (this.isDisposed) return;
    this.element.dataset.drawn = "partly";
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.isDisposed || !this.size.width || !this.size.height) return;
    this.renderer.draw(this.describeScene());
    this.element.dataset.drawn = this.isBusy ? "partly" : "wholly";
    this.tellView();
  }

  describeScene() {
    const { style, compared, size, isolated } = this;
    this.palette ??= buildPalette(this.segments, style.visible, isolated);
    const isDimmed = isolated !== null && style.background === "photo" && !compared;
    return {
      view: this.view,
      size,
      ratio: size.ratio,
      picture: this.picture,
      sides: [{ palette: this.palette }, compared && { palette: compared.palette }],
      line: compared ? compared.position * size.width : size.width + 1,
      opacity: isolated === null ? style.opacity : 0,
      outlines: style.outlines,
      background: isDimmed ? "dim" : style.background,
      // The isolated segment is to be seen as it is.
      highlighted: this.highlighted === isolated ? 0 : this.highlighted,
      theme: (this.theme ??= readTheme(this.element)),
    };
  }

  tellView() {
    const { view, picture } = this;
    if (!view || !picture) return;
    const isFit = geometry.isFit(view, this.size, picture);
    if (view === this.toldView && isFit === this.toldFit) return;
    [this.toldView, this.toldFit] = [view, isFit];
    // One finger scrolls the page as long as there is nothing to pan.
    this.element.style.touchAction = isFit ? "pan-y" : "none";
    this.element.classList.toggle("viewer--movable", !isFit);
    this.told.onView({ ...view, isFit });
  }

  hover(point) {
    const id = point ? this.pick(point) : null;
    if (id === this.hovered) return;
    this.hovered = id;
    this.element.classList.toggle("viewer--pointed", id !== null);
    this.told.onHover(id);
  }

  choose(point) {
    const id = this.pick(point);
    this.told.onSelect(id === this.isolated ? null : id);
  }

  /** Return the id of the visible segment at a point of the element, or null. */
  pick(point) {
    const { compared, style, picture, view } = this;
    const isRight = compared && point.x >= compared.position * this.size.width;
    if (!picture || !view || isRight) return null;
    const id = geometry.labelAt(this.labels, picture, geometry.toPicture(view, point));
    const isVisible = this.segments.some((segment) => segment.id === id) && (style.visible?.has(id) ?? true);
    return isVisible ? id : null;
  }
}

function ignore() {}
