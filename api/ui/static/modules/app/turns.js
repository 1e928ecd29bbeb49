/** Tasks that take much memory: one after the other.  No DOM here. */

/** Return a function that runs an asynchronous task after those before it, and returns what the task does. */
export function createTurns() {
  let last = Promise.resolve();
  return (task) => {
    const done = last.then(task);
    last = done.catch(() => {});
    return done;
  };
}
