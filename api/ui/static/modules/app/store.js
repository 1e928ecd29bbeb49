/** The state of the page: one frozen object at a time, and functions that are told of the next one.  No DOM here. */

import { PAGE_DEFAULTS } from "./parameters.js";

export const ALL_STATES = "all";

/** Return the state of a page that has just been opened. */
export function buildInitialState() {
  return {
    isReady: false,
    // Photos and their jobs, the newest first; see buildEntry().
    entries: [],
    nextCursor: null,
    stateFilter: ALL_STATES,
    selectedKey: null,
    // What the picture shows; see picture.js.
    shown: null,
    // The right side of a comparison; see comparison.js.
    comparison: null,
    // For the next photos; without a model, that of the service is used.
    settings: PAGE_DEFAULTS,
    model: null,
    models: [],
    defaultModel: null,
    look: { opacity: 0.55, outlines: true, background: "photo" },
    list: { order: "area", labels: new Set() },
    highlighted: null,
    isolated: null,
    isConnected: true,
    isTokenNeeded: false,
    notice: null,
    announcement: "",
  };
}

/**
 * Return a photo and its job.
 *
 * key: of this page, and the id of its own under which the photo is submitted.  file: null for jobs of other pages.
 */
export function buildEntry(key, more) {
  return {
    key,
    jobId: null,
    name: "photo",
    file: null,
    model: null,
    state: "waiting",
    progress: 0,
    position: null,
    eta: null,
    stages: [],
    timings: {},
    error: null,
    // When it is sent again by itself, in milliseconds; null: not so.
    repeatAt: null,
    thumbnail: null,
    createdAt: Date.now(),
    parameters: PAGE_DEFAULTS,
    image: null,
    ...more,
  };
}

export function createStore(initial = buildInitialState()) {
  let state = initial;
  const listeners = new Set();

  function set(change) {
    state = Object.freeze({ ...state, ...(typeof change === "function" ? change(state) : change) });
    for (const listener of listeners) listener(state);
  }

  return {
    get: () => state,
    set,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    updateEntry(key, change) {
      set(({ entries }) => ({
        entries: entries.map((one) => (one.key === key ? { ...one, ...change } : one)),
      }));
    },
  };
}

export function findEntry(state, key) {
  return state.entries.find((one) => one.key === key) ?? null;
}

export function selectedEntry(state) {
  return findEntry(state, state.selectedKey);
}

/** Return the entries that the filter of the gallery lets through; the selected one always. */
export function filterEntries({ entries, stateFilter, selectedKey }) {
  if (stateFilter === ALL_STATES) return entries;
  return entries.filter((one) => one.key === selectedKey || findGroup(one.state) === stateFilter);
}

/** Return the group in which the gallery counts a state: running, succeeded, failed or canceled. */
export function findGroup(state) {
  if (state === "succeeded" || state === "canceled") return state;
  return state === "failed" || state === "expired" || state === "deleted" ? "failed" : "running";
}

export function isUnderWay(entry) {
  return findGroup(entry.state) === "running";
}
