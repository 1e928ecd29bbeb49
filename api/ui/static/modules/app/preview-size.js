/** How large the preview of a recut is: as large as it is shown, and smaller where the service is slow.  No DOM here. */

const LARGEST = 1024;
const SMALLEST = 320;
/** Milliseconds that a preview may take: the picture is to follow a slider within 150, and drawing it takes up to 50. */
const AIM_MS = 80;
// One slow answer may be by chance.
const [LEAST_CHANGE, MOST_CHANGE] = [0.7, 1.25];

export class PreviewSize {
  #limit = LARGEST;

  /** @param measureShown () -> the longer side of the picture on the screen, in its pixels; 0: unknown */
  constructor(measureShown) {
    this.measureShown = measureShown;
  }

  /** Return the longest side of the next preview, in pixels. */
  choose() {
    return Math.ceil(Math.min(this.#limit, Math.max(this.measureShown() || LARGEST, SMALLEST)));
  }

  /** Take note of how long a preview took; the time grows with its pixels. */
  note(side, milliseconds) {
    const change = Math.sqrt(AIM_MS / Math.max(milliseconds, 1));
    const wanted = side * Math.min(Math.max(change, LEAST_CHANGE), MOST_CHANGE);
    // A quick answer of a small size tells nothing against a larger one.
    this.#limit = Math.min(Math.max(change > 1 ? Math.max(wanted, this.#limit) : wanted, SMALLEST), LARGEST);
  }
}
