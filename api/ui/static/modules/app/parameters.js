/** The parameters of a segmentation: names, ranges, defaults, and how they stand in a query.  No DOM here. */

/** As the service has them when a request does not name them. */
export const SERVICE_DEFAULTS = {
  threshold: 0.9,
  mask_threshold: 0.5,
  overlap_mask_area_threshold: 0.5,
  subtask: null,
  fuse_stuff: false,
  strict_instance_thresholds: false,
};

/** What the page begins with: more is found at a lower threshold, and the slider is there to raise it. */
export const PAGE_DEFAULTS = { ...SERVICE_DEFAULTS, threshold: 0.5 };

// Below the first value nothing is kept for a recut.
export const SLIDERS = [
  { name: "threshold", label: "Threshold", min: 0.05, max: 0.99, help: "Lowest score of a segment" },
  { name: "mask_threshold", label: "Mask threshold", min: 0.05, max: 0.95, help: "Lowest probability of a pixel" },
  { name: "overlap_mask_area_threshold", label: "Overlap", min: 0, max: 0.95, help: "Share of its mask that a segment must keep" },
];
export const SUBTASKS = ["panoptic", "instance", "semantic"];

/** Return the members that a request must name, because they differ from what the service assumes. */
export function selectChanged(parameters) {
  return Object.fromEntries(
    Object.entries(parameters).filter(([name, value]) => name in SERVICE_DEFAULTS && value !== SERVICE_DEFAULTS[name]),
  );
}

/** Return the query of a submission: parameters, and other options that are not empty. */
export function buildQuery(parameters, options = {}) {
  const all = { ...selectChanged(parameters), ...options };
  const given = Object.entries(all).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

/** Return the settings as far as a model has them: it may not have the kind of segments that was chosen for another. */
export function adaptTo(model, settings) {
  const isKnown = !settings.subtask || !model?.subtasks || model.subtasks.includes(settings.subtask);
  return isKnown ? settings : { ...settings, subtask: null };
}

/** Return whether two sets of parameters mean the same. */
export function isSame(one, other) {
  return Object.keys(SERVICE_DEFAULTS).every((name) => (one[name] ?? null) === (other[name] ?? null));
}
