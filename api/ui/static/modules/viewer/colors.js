/**
 * Colours of segments: the same for a label as long as the page is open, and different for each of its instances.
 *
 * Colours are in OKLCH (Ottosson 2020, https://bottosson.github.io/posts/oklab/), where equal steps look equal.  Those of
 * labels were chosen one after the other, each as far as possible from all before it for the normal eye and for three
 * kinds of colour blindness (simulated as by Machado et al. 2009), so the first ones differ most; instances likewise.
 */

/** [hue in degrees, lightness] of labels; further labels share them. */
const SLOTS = [
  [264, 0.62], [90, 0.86], [42, 0.56], [204, 0.86], [0, 0.74], [108, 0.68], [318, 0.56], [270, 0.8],
  [150, 0.74], [318, 0.74], [72, 0.62], [132, 0.86], [24, 0.8], [156, 0.56], [354, 0.62], [288, 0.56],
  [174, 0.8], [282, 0.68], [18, 0.68], [336, 0.68], [120, 0.74], [342, 0.56], [108, 0.8], [306, 0.62],
];
/** [hue, lightness, factor of chroma] of a label's instances against its first one; further instances share them. */
const SHIFTS = [
  [0, 0, 1], [-24, -0.18, 1], [-12, 0.18, 1], [12, -0.06, 1], [24, 0.06, 0.6], [24, -0.18, 0.6],
  [-24, -0.06, 0.6], [-24, 0.06, 1], [0, 0.12, 0.6], [0, -0.12, 1], [-24, 0, 0.6], [24, 0, 0.6],
];
const CHROMA = 0.17;
/** Readable on a dark photo and on a light one. */
const [DARKEST, LIGHTEST] = [0.5, 0.9];

/** Slots of the labels that the page has seen, so that a colour does not change as others come and go. */
const slots = new Map();

/** Return the segments, each with `color`: [red, green, blue] of 0 to 255. */
export function colorSegments(segments, assigned = slots) {
  const instances = new Map();
  return segments.map((segment) => {
    const instance = instances.get(segment.label) ?? 0;
    instances.set(segment.label, instance + 1);
    return { ...segment, color: makeColor(assignSlot(segment.label, assigned), instance) };
  });
}

/** Return the slot of a label: the one its text asks for, or the next that no other label has. */
function assignSlot(label, assigned) {
  const known = assigned.get(label);
  if (known !== undefined) return known;
  const taken = new Set(assigned.values());
  let slot = hash(label) % SLOTS.length;
  for (let tries = 0; tries < SLOTS.length && taken.has(slot); tries++) slot = (slot + 1) % SLOTS.length;
  assigned.set(label, slot);
  return slot;
}

/** FNV-1a, 32 bits. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0), 0x01000193) >>> 0;
  return value;
}

/** Return the colour of an instance of the label that has a slot. */
export function makeColor(slot, instance) {
  const [hue, lightness] = SLOTS[slot];
  const [hueShift, lightnessShift, chromaFactor] = SHIFTS[instance % SHIFTS.length];
  const bounded = Math.min(Math.max(lightness + lightnessShift, DARKEST), LIGHTEST);
  return toRgb(bounded, CHROMA * chromaFactor, hue + hueShift);
}

/** Return OKLCH as sRGB; chroma is lowered until the colour exists on a screen. */
function toRgb(lightness, chroma, hue) {
  const angle = (hue * Math.PI) / 180;
  for (let tried = chroma; ; tried -= 0.01) {
    const linear = toLinear(lightness, tried * Math.cos(angle), tried * Math.sin(angle));
    const exists = linear.every((value) => value >= -0.001 && value <= 1.001);
    if (exists || tried <= 0.01) return linear.map(encodeGamma);
  }
}

function toLinear(lightness, a, b) {
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ];
}

function encodeGamma(value) {
  const bounded = Math.min(Math.max(value, 0), 1);
  return Math.round(255 * (bounded <= 0.0031308 ? 12.92 * bounded : 1.055 * bounded ** (1 / 2.4) - 0.055));
}
