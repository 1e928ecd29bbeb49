/**
 * Photos that were canceled when all of them may have been sent: their jobs would run unseen, so they are canceled once
 * the service has answered.  No DOM here.
 */

// Progress is told every 50 ms at most, so what is left by then may have been sent.
const UNTOLD_BYTES = 256 * 1024;

/**
 * @param cancelJob (id) -> Promise; the id is that of the job, or the key of its entry, under which it was submitted
 * @param isConnected () -> whether the server answers
 */
export function createWithdrawals({ cancelJob, isConnected }) {
  const awaited = new Set();
  // Sent, but the answer was lost.
  const unanswered = new Set();
  // Of these, the ones that are to be canceled when the server is back.
  const lost = new Set();

  /** Note that the photo of an entry is not wanted any more.  Return whether the answer to its upload is to be awaited. */
  function add({ key, state, file, progress }) {
    if (state !== "uploading") {
      if (unanswered.delete(key)) cancelLost(key);
      return false;
    }
    if (file.size * (1 - progress) > UNTOLD_BYTES) return false;
    awaited.add(key);
    return true;
  }

  /** Note the outcome of an upload; return whether it had been withdrawn, and cancel its job then. */
  function settle(key, { job = null, isUnreachable = false }) {
    if (!awaited.delete(key)) {
      if (isUnreachable) unanswered.add(key);
      else unanswered.delete(key);
      return false;
    }
    if (job) cancelJob(job.id);
    else if (isUnreachable) cancelLost(key);
    return true;
  }

  function cancelLost(key) {
    if (isConnected()) cancelJob(key);
    else lost.add(key);
  }

  /** The server is back. */
  function resume() {
    for (const key of lost) cancelJob(key);
    lost.clear();
  }

  return { add, settle, resume };
}
