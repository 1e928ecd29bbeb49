/** States, times and places in the queue, in words.  No DOM here. */

const STATES = {
  waiting: "Waits for its upload",
  uploading: "Uploading",
  queued: "In the queue",
  running: "Finding segments",
  succeeded: "Done",
  failed: "Failed",
  canceled: "Canceled",
  expired: "Not done in time",
  deleted: "Deleted",
};
const STAGES = { decode: "Reading the photo", forward: "Running the model", batch: "Waiting for the model" };

/** Return the state of an entry as a sentence part, with what is known of its end. */
export function describeState(entry, now = Date.now()) {
  if (entry.state === "waiting" && entry.repeatAt) return "Waits for the service";
  if (entry.state === "uploading") return `Uploading, ${Math.round(100 * entry.progress)} %`;
  if (entry.state === "queued") return [describePlace(entry.position), describeEta(entry.eta, now)].filter(Boolean).join(", ");
  if (entry.state === "running" && entry.stages.length) return nameStage(entry.stages.at(-1).name);
  const seconds = measureSeconds(entry);
  if (entry.state === "succeeded" && seconds !== null) return `Done in ${formatDuration(1000 * seconds)}`;
  return STATES[entry.state] ?? entry.state;
}

export function nameState(state) {
  return STATES[state] ?? state;
}

function describePlace(position) {
  if (!position) return STATES.queued;
  return position === 1 ? "Next in the queue" : `Number ${position} in the queue`;
}

function describeEta(eta, now) {
  if (!eta) return "";
  const seconds = Math.max(0, (Date.parse(eta.latest) - now) / 1000);
  return `done within ${seconds < 2 ? "2 seconds" : formatDuration(1000 * seconds, 0)}`;
}

/** Return the stages of an entry with their milliseconds; null while that is not known. */
export function listStages(entry) {
  const timings = Object.entries(entry.timings);
  if (timings.length) return timings.map(([name, ms]) => ({ name: nameStage(name), ms }));
  return entry.stages.map(({ name, at }, index) => ({
    name: nameStage(name),
    ms: entry.stages[index + 1] ? entry.stages[index + 1].at - at : null,
  }));
}

function nameStage(name) {
  return STAGES[name] ?? name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
}

function measureSeconds({ startedAt, endedAt }) {
  return startedAt && endedAt ? (Date.parse(endedAt) - Date.parse(startedAt)) / 1000 : null;
}

/** Return a duration in words. */
export function formatDuration(ms, digits = 1) {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 90_000) return digits ? `${(ms / 1000).toFixed(digits)} s` : `${Math.ceil(ms / 1000)} seconds`;
  return `${Math.ceil(ms / 60_000)} minutes`;
}
