/**
 * Pointer, wheel and keys of the viewer, told as movements of the view and as points that are hovered or chosen.
 *
 * `on` has: pan(dx, dy), zoom(factor, point), fit(), pixels(), hover(point | null), choose(point), leave(); points are in
 * CSS pixels of the element.  A drag of the main button or one finger pans, two fingers zoom.
 */

/** A pointer that moved less has clicked; a finger is less steady than a mouse. */
const CLICK_PIXELS = { mouse: 4, touch: 10, pen: 8 };
const KEY_STEP = 48;
const KEY_ZOOM = 1.25;

/** Listen at an element; returns a function that ends it. */
export function watchGestures(element, on) {
  const events = new AbortController();
  const { signal } = events;
  const pointers = new Map();
  // Where the main pointer went down, until it has moved too far for a click.
  let pressed = null;

  const locate = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left - element.clientLeft, y: event.clientY - box.top - element.clientTop };
  };

  function press(event) {
    if (event.button !== 0 && event.button !== 1) return;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, locate(event));
    pressed = pointers.size === 1 && event.button === 0 ? locate(event) : null;
    if (event.button === 1) event.preventDefault();
  }

  function move(event) {
    const point = locate(event);
    if (!pointers.has(event.pointerId)) return on.hover(event.pointerType === "touch" ? null : point);
    const limit = CLICK_PIXELS[event.pointerType] ?? CLICK_PIXELS.mouse;
    if (pressed && Math.hypot(point.x - pressed.x, point.y - pressed.y) < limit) return undefined;
    // The click's tolerance is made up for, so that what was taken hold of stays under the pointer.
    drag(event.pointerId, point);
    pressed = null;
    return undefined;
  }

  function drag(id, point) {
    const before = [...pointers.values()];
    const from = pointers.get(id);
    pointers.set(id, point);
    if (before.length === 1) return on.pan(point.x - from.x, point.y - from.y);
    const after = [...pointers.values()];
    const [one, other] = [measure(before), measure(after)];
    on.pan(other.x - one.x, other.y - one.y);
    return on.zoom(other.spread / Math.max(one.spread, 1), other);
  }

  function release(event) {
    if (!pointers.delete(event.pointerId)) return;
    if (pressed && event.type === "pointerup") on.choose(pressed);
    pressed = null;
  }

  function turn(event) {
    event.preventDefault();
    // Lines and pages as pixels; a pinch on a touchpad comes as small turns with the control key.
    const unit = [1, 16, 160][event.deltaMode];
    const turned = Math.min(Math.max(event.deltaY * unit, -160), 160);
    on.zoom(Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.0018)), locate(event));
  }

  element.addEventListener("pointerdown", press, { signal });
  element.addEventListener("pointermove", move, { signal });
  element.addEventListener("pointerup", release, { signal });
  element.addEventListener("pointercancel", release, { signal });
  element.addEventListener("pointerleave", () => pointers.size || on.hover(null), { signal });
  element.addEventListener("wheel", turn, { signal, passive: false });
  element.addEventListener("keydown", (event) => pressKey(event, on), { signal });
  return () => events.abort();
}

/** Return the middle of two points, and how far apart they are. */
function measure([one, other]) {
  return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, spread: Math.hypot(one.x - other.x, one.y - other.y) };
}

function pressKey(event, on) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== event.currentTarget) return;
  const step = event.shiftKey ? 4 * KEY_STEP : KEY_STEP;
  const keys = {
    ArrowLeft: () => on.pan(step, 0),
    ArrowRight: () => on.pan(-step, 0),
    ArrowUp: () => on.pan(0, step),
    ArrowDown: () => on.pan(0, -step),
    "+": () => on.zoom(KEY_ZOOM),
    "=": () => on.zoom(KEY_ZOOM),
    "-": () => on.zoom(1 / KEY_ZOOM),
    0: () => on.fit(),
    1: () => on.pixels(),
    Escape: () => on.leave(),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}
