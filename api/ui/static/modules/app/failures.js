/** Calls that have failed: told in plain words, and made again where the service says when that is worth it. */

import { explain, speak } from "../errors.js";

/** After a longer wait the page is probably not looked at any more. */
const LONGEST_WAIT_MS = 600_000;
/** Clocks differ, and a call that comes too early has to wait once more. */
const MARGIN_MS = 250;

/** Return after how many milliseconds a call is to be made again by itself; null: not by itself. */
export function chooseRepeat({ status, retryAfterSeconds }) {
  if ((status !== 429 && status !== 503) || retryAfterSeconds === null || retryAfterSeconds === undefined) return null;
  const ms = 1000 * retryAfterSeconds + MARGIN_MS;
  return ms <= LONGEST_WAIT_MS ? ms : null;
}

/** @param report (isConnected) notes whether the server answers. */
export function createFailures(store, { report, now = Date.now }) {
  /**
   * Tell a failure, as a notice of the page.
   *
   * @param again makes the call again; it is called by itself once the service takes it, if it says when.
   */
  function show(error, again = null) {
    if (error.name === "AbortError") return;
    if (error.isUnreachable) return report(false);
    // The dialog for the token says the rest.
    if (error.status === 401) return store.set({ isTokenNeeded: true });
    const explanation = explain(error);
    const waitMs = again && chooseRepeat(error);
    const notice = { ...explanation, repeatAt: waitMs === null ? null : now() + waitMs };
    store.set({ notice, announcement: speak(explanation) });
    if (waitMs !== null) setTimeout(() => repeat(notice, again), waitMs);
  }

  function repeat(notice, again) {
    if (store.get().notice === notice) store.set({ notice: null });
    again();
  }

  return { show };
}
