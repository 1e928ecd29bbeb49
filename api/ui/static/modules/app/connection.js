/** Whether the server answers: told once when it is gone, and once when it is back. */

import { call } from "../api.js";

const RETRY_MS = 2000;

/** @param onBack is called each time when the server is back. */
export function createConnection(store, { onBack, probe = () => call("v1/models"), retryMs = RETRY_MS }) {
  let timer = null;

  async function tryAgain() {
    timer = null;
    try {
      await probe();
      report(true);
    } catch (error) {
      if (error.isUnreachable) timer = setTimeout(tryAgain, retryMs);
      else report(true);
    }
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
