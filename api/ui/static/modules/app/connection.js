/** Whether the server answers: told once when it is gone, and once when it is back. */

import { call } from "../api.js";

const RETRY_MS = 2000;
const PROBE_MS = 10_000;

/** @param onBack is called each time when the server is back. */
export function createConnection(store, { onBack, probe = callInTime, retryMs = RETRY_MS }) {
  // Also while a probe is under way, so that there is one at a time.
  let timer = null;

  async function tryAgain() {
    try {
      await probe();
    } catch (error) {
      if (error.isUnreachable) {
        timer = setTimeout(tryAgain, retryMs);
        return;
      }
    }
    timer = null;
    report(true);
  }

  /** Note whether the last call reached the server. */
  function report(isConnected) {
    if (store.get().isConnected !== isConnected) {
      const announcement = isConnected ? "The server is back." : "The server does not answer. Trying again.";
      store.set({ isConnected, announcement });
      if (isConnected) onBack();
    }
    if (!isConnected) timer ??= setTimeout(tryAgain, retryMs);
  }

  return { report };
}

/** A server that takes a connection and answers nothing is asked again. */
function callInTime() {
  return call("v1/models", { signal: AbortSignal.timeout(PROBE_MS) });
}
