/**
 * Recuts while a slider moves: a preview for the newest setting, at most one call at a time, and the full size at rest.
 *
 * No DOM and no network here: `send` and `show` are passed in.
 */

// A full size that is asked for while a hand still moves the slider holds up the previews behind it.
const REST_MS = 450;

export class RecutQueue {
  /**
   * @param send (parameters, { isPreview, signal }) -> Promise of an answer
   * @param show (answer, parameters, { isPreview }) is called with each answer, in the order of the settings
   * @param fail (error) is called when a call fails
   * @param onBusy (isBusy) tells whether a call is under way
   * @param needsPreview () -> whether a preview is smaller than the full size
   */
  constructor({ send, show, fail, onBusy = () => {}, needsPreview = () => true, restMs = REST_MS }) {
    Object.assign(this, { send, show, fail, onBusy, needsPreview, restMs });
    this.wanted = null;
    this.flight = null;
    this.timer = null;
    this.isClosed = false;
  }

  /** Ask for a setting; what was asked for before and has not been sent is dropped. */
  request(parameters) {
    if (this.isClosed) return;
    clearTimeout(this.timer);
    this.wanted = parameters;
    // The full size takes long, and nobody waits for that of an old setting.
    if (this.flight && !this.flight.isPreview) this.flight.controller.abort();
    if (!this.flight) this.#start(this.needsPreview());
  }

  /** End; answers that are still under way are not shown. */
  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.flight?.controller.abort();
  }

  async #start(isPreview) {
    const parameters = this.wanted;
    const flight = { isPreview, controller: new AbortController() };
    this.wanted = null;
    this.flight = flight;
    this.onBusy(true);
    const outcome = await this.#send(parameters, flight);
    this.flight = null;
    if (this.isClosed) return;
    if (outcome.answer && !flight.controller.signal.aborted) this.show(outcome.answer, parameters, { isPreview });
    if (this.wanted) this.#start(this.needsPreview());
    else this.#rest(parameters, isPreview, outcome);
  }

  async #send(parameters, { isPreview, controller }) {
    try {
      return { answer: await this.send(parameters, { isPreview, signal: controller.signal }) };
    } catch (error) {
      return { error };
    }
  }

  #rest(parameters, isPreview, { error }) {
    this.onBusy(false);
    if (error) this.fail(error);
    else if (isPreview) this.timer = setTimeout(() => this.#startFull(parameters), this.restMs);
  }

  #startFull(parameters) {
    this.wanted = parameters;
    this.#start(false);
  }
}
