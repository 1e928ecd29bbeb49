/**
 * The scene that both renderers draw: values alone, and the rules that they have in common.
 *
 * A scene is {
 *   view, size, ratio      the view, the element's size in CSS pixels, device pixels for one of them
 *   picture                { width, height } of the photo, or of the label map if there is no photo
 *   sides                  [left, right], each { palette } or null; the right one is beside the line of a comparison
 *   line                   where it is, in CSS pixels from the left; behind the right edge if nothing is compared
 *   opacity                of the colours, 0 to 1
 *   outlines               boolean
 *   background             "photo", "dim", "blur", "gray" or "transparent": how the pixels without a segment look
 *   highlighted            id of the segment that is lit up, on the left side; 0 for none
 *   theme                  { checks: [light, dark], empty }: colours of 0 to 255, for transparency and a missing photo
 * }
 * A palette is a Uint8Array of 65536 x 4: by id red, green, blue and whether the segment is shown, 255 or 0.
 */

export const PALETTE_SIDE = 256;
/** Width of outlines in CSS pixels, on each side of an edge. */
export const OUTLINE = 1.5;
export const BRIGHT_OUTLINE = 3;
/** Share of white in the outline of a segment, and opacity of the dark line around it. */
export const OUTLINE_WHITE = 0.3;
export const HALO = 0.4;
/** Opacity is raised by it for the segment that is lit up, and multiplied by FADED for the others. */
export const LIT = 0.25;
export const FADED = 0.5;
/** Side of a check that stands for transparency, in CSS pixels. */
export const CHECK = 8;
/** How much of the photo's light is left around an isolated segment, in half of its colour. */
export const DIM = 0.36;
/** Radius of the blur, as a share of the photo's longer side. */
export const BLUR = 0.012;
/** From this number of device pixels for one of the photo on its pixels are shown as squares. */
export const SQUARE_PIXELS = 4;
/** An eighth of the ring around a pixel lies in another segment: that many eighths make a full outline. */
export const FULL_OUTLINE = 2;

/** Return the palette of segments [{ id, color }]. visible: Set of ids, null for all.  isolated: the only id, or null. */
export function buildPalette(segments, visible = null, isolated = null) {
  const palette = new Uint8Array(PALETTE_SIDE * PALETTE_SIDE * 4);
  for (const { id, color } of segments) {
    const isShown = (!visible || visible.has(id)) && (isolated === null || id === isolated);
    palette.set([...color, isShown ? 255 : 0], id * 4);
  }
  return palette;
}

/** Return the opacity of a segment's colour. */
export function strength(id, { opacity, highlighted, photoIsMissing }) {
  const base = photoIsMissing ? 1 : opacity;
  if (!highlighted) return base;
  return id === highlighted ? Math.min(1, base + LIT) : base * FADED;
}

/** Return eight points on the unit circle. */
export function ring() {
  return Array.from({ length: 8 }, (_, index) => {
    const angle = ((index + 0.5) * Math.PI) / 4;
    return [Math.cos(angle), Math.sin(angle)];
  });
}
