/** Repeated calls that stop while nobody can see the page, and come less often while they fail. */

const MAX_DELAY_MS = 30_000;

/** Return how long to wait after `failures` failed calls in a row; the service may ask for longer. */
export function chooseDelay(intervalMs, failures, retryAfterSeconds = null) {
  const backoff = Math.min(intervalMs * 2 ** failures, Math.max(MAX_DELAY_MS, intervalMs));
  return Math.max(backoff, (retryAfterSeconds ?? 0) * 1000);
}

/**
 * Call `load` at once, and again `intervalMs` after it has ended.  `load` gets an AbortSignal, and throws what failed;
 * `onError` gets that.
 */
export function startPolling(load, { intervalMs, onError }) {
  let timer = null;
  let abort = null;
  let isStopped = false;

  async function run() {
    abort?.abort();
    clearTimeout(timer);
    abort = new AbortController();
    const { signal } = abort;
    let delay = intervalMs;
    try {
      await load(signal);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      delay = chooseDelay(intervalMs, failures, error.retryAfterSeconds);
      onError(error);
    }
    if (!signal.aborted && !isPaused()) timer = setTimeout(run, delay);
  }

  let failures = 0;
  const isPaused = () => isStopped || document.hidden;
  function pause() {
    clearTimeout(timer);
    abort?.abort();
  }
  const onVisibility = () => (isPaused() ? pause() : run());
  document.addEventListener("visibilitychange", onVisibility);
  if (!document.hidden) run();

  return {
    stop() {
      isStopped = true;
      document.removeEventListener("visibilitychange", onVisibility);
      pause();
    },
  };
}
