// Keeping the draft: in the browser at once, on the server a second later; and what happens when either says no.
// A small state machine without DOM: the page shows `state`, and answers its questions.
import { sameAnswer } from "./answer.js";

export const SAVE_AFTER_MS = 1000;
const KEEP_WITHIN_MS = 200;
const LONGEST_WAIT_MS = 30_000;
const KEEPALIVE_BYTES = 60_000; // browsers refuse to send more while a page goes away

/**
 * States: clean (nothing drawn yet), saved, waiting (edited, about to be sent), saving, offline, signed-out, conflict,
 * lease-lost, refused, closed.
 */
export class DraftKeeper {
  /**
   * `read()` gives {boxes, is_empty, seconds} as they are now; `on` = {state(name, detail), lease(lease), conflict(draft)}.
   */
  constructor({ api, local, client, read, on, wait = SAVE_AFTER_MS }) {
    Object.assign(this, { api, local, client, read, on, wait });
    this.state = "closed";
    this.timer = 0;
  }

  /** Begins with a task; `base` is the version that the server has. */
  open(task, { base = 0, modelVersion = null, content = null } = {}) {
    this.close();
    this.task = task;
    this.base = base;
    this.modelVersion = modelVersion;
    this.sent = content; // what the server is known to have
    this.submitKey = null;
    this.isDirty = false;
    this.failures = 0;
    this.isKeptHere = true;
    this.become(base > 0 ? "saved" : "clean");
  }

  close() {
    clearTimeout(this.timer);
    this.task = null;
    this.state = "closed";
  }

  become(state, detail = null) {
    this.state = state;
    this.on.state(state, detail);
  }

  /** After each edit. */
  edited() {
    if (!this.task) return;
    this.isDirty = true;
    this.submitKey = null; // another answer than the one that was about to be sent
    this.keepSoon();
    if (["conflict", "lease-lost", "signed-out"].includes(this.state)) return;
    if (this.state === "saving") return; // sent again when the answer is here
    if (this.state !== "offline") this.become("waiting");
    this.schedule(this.state === "offline" ? undefined : this.wait);
  }

  /** When the frame that shows the edit is out: copying a thousand boxes into the database takes some of its time. */
  keepSoon() {
    if (this.keeping) return;
    const keep = () => {
      this.keeping = false;
      if (this.task) this.keepHere();
    };
    this.keeping = true;
    if (globalThis.requestIdleCallback) requestIdleCallback(keep, { timeout: KEEP_WITHIN_MS });
    else setTimeout(keep, KEEP_WITHIN_MS / 4);
  }

  keepHere() {
    const { task } = this;
    const draft = {
      ...this.read(), base: this.base, is_dirty: this.isDirty, client: this.client, model_version: this.modelVersion,
      submit_key: this.submitKey,
    };
    return this.local.put(task, draft).then((isKept) => {
      if (task !== this.task || isKept === this.isKeptHere) return;
      this.isKeptHere = isKept;
      this.on.state(this.state, null);
    });
  }

  schedule(ms) {
    if (ms === undefined && this.timer) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.save();
    }, ms ?? this.backoff());
  }

  backoff() {
    return Math.min(LONGEST_WAIT_MS, 1500 * 2 ** Math.min(this.failures, 6));
  }

  /** Sends now what has not been sent. */
  async save({ force = false } = {}) {
    if (!this.task || (!this.isDirty && !force) || this.state === "saving") return this.inFlight;
    clearTimeout(this.timer);
    this.timer = 0;
    this.inFlight = this.send().finally(() => (this.inFlight = null));
    return this.inFlight;
  }

  async send() {
    const { task } = this;
    const content = this.read();
    this.isDirty = false;
    this.become("saving");
    try {
      const answer = await this.api.saveDraft(task, { base_version: this.base, client: this.client, ...content });
      if (task !== this.task) return;
      this.base = answer.version;
      this.sent = content;
      this.failures = 0;
      if (answer.lease) this.on.lease(answer.lease);
      this.on.saved?.(this.base);
      if (this.isDirty) {
        this.become("waiting");
        this.schedule(this.wait);
      } else {
        this.keepHere();
        this.become("saved");
      }
    } catch (error) {
      if (task !== this.task) return;
      this.isDirty = true;
      this.keepHere();
      this.failed(error);
    }
  }

  failed(error) {
    this.failures += 1;
    if (error.kind === "offline" || error.kind === "busy") {
      this.become("offline", error);
      this.schedule(error.retryAfter ? error.retryAfter * 1000 : undefined);
    } else if (error.kind === "signed-out") {
      this.become("signed-out", error);
    } else if (error.code === "draft_conflict") {
      this.conflict(error.problem.draft);
    } else if (error.code === "lease_lost") {
      this.become("lease-lost", error);
    } else if (error.kind === "refused") {
      this.become("refused", error);
    } else {
      throw error;
    }
  }

  conflict(draft) {
    if (draft && sameAnswer(this.read(), draft)) {
      // Both tabs drew the same: nothing to ask.
      this.settled(draft.version);
      return;
    }
    this.theirs = draft;
    this.become("conflict", draft);
    this.on.conflict(draft);
  }

  settled(version) {
    this.base = version;
    this.isDirty = false;
    this.keepHere();
    this.become("saved");
  }

  /** The person chose their own version: it goes over the other. */
  keepMine(draft) {
    this.theirs = null;
    this.base = draft.version;
    this.isDirty = true;
    this.become("waiting");
    return this.save();
  }

  /** The person chose the other version; the page shows it already. */
  tookTheirs(draft) {
    this.theirs = null;
    this.settled(draft.version);
  }

  /** The connection, the session or the lease came back. */
  resume() {
    if (!this.task) return undefined;
    this.failures = 0;
    if (this.state === "conflict") return undefined;
    this.become(this.isDirty ? "waiting" : "saved");
    return this.isDirty ? this.save() : undefined;
  }

  /** The page goes away: once more to the server, if it is small enough to be sent after us. */
  leave() {
    if (!this.task) return;
    if (this.isDirty) this.keepHere();
    this.local.flush();
    if (!this.isDirty || ["conflict", "lease-lost", "signed-out"].includes(this.state)) return;
    const content = { base_version: this.base, client: this.client, ...this.read() };
    if (JSON.stringify(content).length > KEEPALIVE_BYTES) return;
    this.api.saveDraft(this.task, content, { keepalive: true }).catch(() => {});
  }
}

/**
 * Which draft to go on with. `server`: the task's draft or null; `local`: what this browser kept or null.
 * @returns {{use: "none"|"server"|"local"|"ask"}}
 */
export function chooseDraft(server, local) {
  if (!local || !local.is_dirty) return { use: server ? "server" : "none" };
  if (!server) return { use: "local" };
  if (sameAnswer(local, server)) return { use: "server" };
  return { use: local.base >= server.version ? "local" : "ask" };
}
