/** Which of the followed jobs have a stream of events: a few, because each holds a connection.  No DOM here. */

/** One job that is followed. */
export class Follower {
  #wake = null;
  #isWoken = false;

  /** @param isPreferred () -> whether its photo is looked at */
  constructor(isPreferred) {
    this.isPreferred = isPreferred;
    /** Ends the stream that it has. */
    this.giveUp = () => {};
  }

  /** Have a function called once it is woken, or at once if it was since the last time. */
  whenWoken(call) {
    if (this.#isWoken) call();
    else this.#wake = call;
    this.#isWoken = false;
  }

  /** Its pause has ended. */
  endPause() {
    this.#wake = null;
  }

  /** End its pause, or the one that comes next. */
  wake() {
    this.#isWoken = this.#wake === null;
    this.#wake?.();
  }
}

/** A follower that is preferred takes the place of one that is not. */
export class StreamPlaces {
  #limit;
  #followers = new Set();
  #taken = new Set();

  constructor(limit) {
    this.#limit = limit;
  }

  /** How many jobs are followed, with a stream or without. */
  get count() {
    return this.#followers.size;
  }

  add(follower) {
    this.#followers.add(follower);
  }

  remove(follower) {
    this.leave(follower);
    this.#followers.delete(follower);
  }

  /** Return whether a follower may open a stream now; it calls leave() when that has ended. */
  take(follower) {
    if (this.#taken.size >= this.#limit && !(follower.isPreferred() && this.#displace())) return false;
    this.#taken.add(follower);
    return true;
  }

  leave(follower) {
    this.#taken.delete(follower);
  }

  /** Another job is preferred now: let it ask for a stream at once, not after its pause. */
  reassign() {
    for (const one of this.#followers) if (one.isPreferred() && !this.#taken.has(one)) one.wake();
  }

  #displace() {
    const other = [...this.#taken].find((one) => !one.isPreferred());
    if (!other) return false;
    this.leave(other);
    other.giveUp();
    return true;
  }
}
