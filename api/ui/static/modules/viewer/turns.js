/** Turns of the main thread: long work is done in slices, between which the page does what waits.  No DOM here. */

/** Resolve when the page has had its turn; a timer would take at least 4 ms more each time. */
export function giveWay() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
