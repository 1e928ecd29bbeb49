/** The list of segments: order, filter, words.  No DOM here. */

const COVERED = "covered";
export const ORDERS = { area: "Largest first", score: "Best score first" };

/** Return the segments in an order; those without a score come last. */
export function sortSegments(segments, order) {
  const key = order === "score" ? (one) => one.score ?? -1 : (one) => one.area;
  return [...segments].sort((one, other) => key(other) - key(one) || one.id - other.id);
}

/** Return [{ label, count }], the most frequent first. */
export function countLabels(segments) {
  const counts = new Map();
  for (const { label } of segments) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts]
    .map(([label, count]) => ({ label, count }))
    .sort((one, other) => other.count - one.count || one.label.localeCompare(other.label));
}

/** Return the segments whose label is chosen; without a choice, all. */
export function filterSegments(segments, labels) {
  return labels.size ? segments.filter((one) => labels.has(one.label)) : segments;
}

/** Return a label as a person reads it: `wall-other-merged` of COCO is a wall. */
export function readLabel(label) {
  return label.replace(/-(other|merged|stuff)(?=-|$)/g, "").replaceAll("-", " ");
}

/** Return the names of segments by id: the label, with a number where several have the same. */
export function nameSegments(segments) {
  const several = new Set(countLabels(segments).filter(({ count }) => count > 1).map(({ label }) => label));
  const numbers = new Map();
  return new Map(
    segments.map(({ id, label }) => {
      numbers.set(label, (numbers.get(label) ?? 0) + 1);
      return [id, several.has(label) ? `${readLabel(label)} ${numbers.get(label)}` : readLabel(label)];
    }),
  );
}

/** Return what share of the photo an area is, in words; a segment of no pixels lies under others. */
export function formatShare(area, total) {
  if (area === 0) return COVERED;
  const percent = total ? (100 * area) / total : 0;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** Return a score in words. */
export function formatScore(score) {
  return score === null || score === undefined ? "" : score.toFixed(2);
}

/**
 * Return the segment that is the same thing in another result: of the same label, with the box that overlaps most.
 *
 * The two results may have label maps of different sizes.  undefined: there is none.
 */
export function findMatch(segment, size, others, otherSize) {
  const box = scaleBox(segment.bbox, size);
  const rated = others
    .filter(({ label }) => label === segment.label)
    .map((other) => ({ other, overlap: measureOverlap(box, scaleBox(other.bbox, otherSize)) }))
    .sort((one, another) => another.overlap - one.overlap);
  return rated[0]?.overlap >= 0.5 ? rated[0].other : undefined;
}

function scaleBox([x, y, width, height], size) {
  return [x / size.width, y / size.height, (x + width) / size.width, (y + height) / size.height];
}

function measureOverlap(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  if (width <= 0 || height <= 0) return 0;
  const common = width * height;
  return common / (measureArea(one) + measureArea(other) - common);
}

function measureArea([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}
