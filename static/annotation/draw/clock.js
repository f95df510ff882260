// How long a person has worked on the photo: only while the page is seen and somebody does something. No DOM.

export const IDLE_AFTER_S = 60;

export class Clock {
  constructor({ now = () => performance.now() / 1000 } = {}) {
    this.now = now;
    this.start(0);
  }

  start(seconds) {
    this.counted = seconds;
    this.lastUse = this.now();
    this.from = this.now();
    this.isSeen = true;
  }

  /** Somebody moved, typed or touched. */
  used() {
    this.settle();
    this.lastUse = this.now();
    this.from = this.now();
  }

  seen(isSeen) {
    this.settle();
    this.isSeen = isSeen;
    this.from = this.now();
    if (isSeen) this.lastUse = this.now();
  }

  get idle() {
    return this.now() - this.lastUse;
  }

  get isRunning() {
    return this.isSeen && this.idle < IDLE_AFTER_S;
  }

  get seconds() {
    return this.counted + this.running();
  }

  running() {
    if (!this.isSeen) return 0;
    // After the last use a minute of looking still counts as work.
    return Math.max(0, Math.min(this.now(), this.lastUse + IDLE_AFTER_S) - this.from);
  }

  settle() {
    this.counted += this.running();
    this.from = this.now();
  }
}
