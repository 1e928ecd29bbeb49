/** The seconds until something is done again by itself. */

import { formatWait } from "../errors.js";
import { html, useEffect, useState } from "./view.js";

/** @param until milliseconds of the clock of this browser */
export function Countdown({ until }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [until]);
  const seconds = Math.ceil((until - now) / 1000);
  // Not told by a screen reader each second: how long it takes has been announced.
  return html`<span class="figures" aria-live="off">${seconds > 0 ? `Again in ${formatWait(seconds)}` : "Again now"}</span>`;
}
