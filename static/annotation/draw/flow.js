// From photo to photo: open one, keep its draft, send it, skip it, and what happens when that fails.
import { Answer, toWire } from "./answer.js";
import { ApiError } from "./api.js";
import { chooseDraft } from "./drafts.js";
import { fill, gettext, ngettext, timeOf } from "./texts.js";

const RETRY_MS = 4000;
const PRELOAD_AFTER_MS = 700;

export class Flow {
  /** `page` is the drawing page (task.js); the flow owns `page.task` and the answer. */
  constructor(page) {
    this.page = page;
    this.isSending = false;
  }

  // --- Opening ---------------------------------------------------------------------------------------------
  async next(body = {}) {
    const { page } = this;
    page.wait(gettext("The next photo is being fetched."));
    const found = await this.attempt("next", () => page.api.next(page.config.survey, body), () => this.next(body));
    if (found) await this.arrived(found);
  }

  async open(id, { isBack = false } = {}) {
    const { page } = this;
    page.wait(gettext("The photo is being fetched."));
    const task = await this.attempt("open", () => page.api.task(id), () => this.open(id, { isBack }));
    if (!task) return;
    const refused = task.lease.is_mine ? null : await this.take(task);
    await this.show(task, { isBack });
    if (refused) page.tellTaken(refused);
  }

  /** Opened by its address: it is taken from the queue, or shown only. @returns {Promise<string|null>} why it cannot be had */
  async take(task) {
    try {
      task.lease = await this.page.api.lease(task.id);
      return null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      task.lease = null;
      return error.message;
    }
  }

  async arrived({ task, waiting }) {
    if (task) await this.show(task);
    else this.page.rest(waiting);
  }

  async show(task, { isBack = false } = {}) {
    const { page } = this;
    const local = await page.local.get(task.id);
    const server = isOlderThanAnswer(task) ? null : task.draft;
    const choice = chooseDraft(server, local);
    const draft = choice.use === "server" ? server : choice.use === "none" ? null : local;
    page.begin(task, this.startOf(task, draft), { isBack });
    page.keeper.open(task.id, {
      base: task.draft?.version ?? 0,
      modelVersion: draft === local && local?.model_version ? local.model_version : task.model_version,
    });
    page.clock.start(Math.max(task.draft?.seconds ?? 0, local?.seconds ?? 0));
    if (choice.use === "ask") {
      page.keeper.isDirty = true;
      page.keeper.conflict(task.draft);
    } else if (choice.use === "local") {
      page.keeper.submitKey = local.submit_key ?? null;
      page.keeper.isDirty = true;
      page.notices.show("restored", { text: fill(gettext("What you had drawn here is back (%(time)s)."), { time: timeOf(local.kept_at) }), kind: "success", seconds: 12 });
      page.keeper.save();
    } else if (draft && draft.boxes.length) {
      page.notices.show("restored", { text: fill(gettext("You go on with your draft (%(time)s)."), { time: timeOf(draft.saved_at) }), kind: "success", seconds: 12 });
    }
    this.preload(task);
  }

  /** Boxes to begin with: the draft, else one's own earlier answer, else what the detector proposes. */
  startOf(task, draft) {
    const kept = draft ?? task.my_annotation;
    if (kept) return { boxes: kept.boxes, isEmpty: kept.is_empty };
    const shown = task.proposals.filter((proposal) => !proposal.is_weak);
    return { boxes: shown.map((proposal) => ({ ...proposal.box, label: proposal.label, proposal: proposal.number })), isEmpty: false };
  }

  /** Best effort: the picture that probably comes next is in the browser's cache when it does. */
  preload(task) {
    const { page } = this;
    clearTimeout(this.preloading);
    this.preloading = setTimeout(async () => {
      try {
        const { task: coming } = await page.api.next(page.config.survey, { after: task.id, peek: true });
        if (!coming) return;
        this.ahead = [coming.photo.thumbnail, coming.photo.display].filter(Boolean).map((url) => {
          const image = new Image();
          image.decoding = "async";
          image.fetchPriority = "low";
          image.src = url;
          return image;
        });
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
      }
    }, PRELOAD_AFTER_MS);
  }

  // --- Sending -----------------------------------------------------------------------------------------------
  async submit() {
    const { page } = this;
    const { answer } = page.scene;
    if (!page.task || this.isSending || page.editor.isLocked) return;
    if (answer.size === 0 && !answer.isEmpty) {
      page.askEmpty();
      return;
    }
    if (page.keeper.state === "conflict") {
      page.askVersion();
      return;
    }
    this.isSending = true;
    page.sending(true);
    page.gestures.drop();
    page.editor.isLocked = true; // what is drawn while the answer travels would be in no answer
    try {
      await page.keeper.inFlight;
      const sent = await page.api.submit(page.task.id, await this.body());
      await this.accepted(sent);
    } catch (error) {
      page.setLocked(false);
      page.panel.chosen();
      if (!(error instanceof ApiError)) throw error;
      this.notSent(error);
    } finally {
      this.isSending = false;
      page.sending(false);
    }
  }

  async body() {
    const { page } = this;
    page.keeper.submitKey ??= page.uuid();
    await page.keeper.keepHere(); // the same key after a crash, so that sending again is the same answer
    const { boxes, is_empty, seconds } = page.read();
    return {
      key: page.keeper.submitKey, boxes, is_empty, seconds, model_version: page.keeper.modelVersion,
      supersedes: page.task.my_annotation?.id ?? null, base_version: page.keeper.base, client: page.client, next: true,
    };
  }

  async accepted({ next, waiting = null, progress, feedback }) {
    const { page } = this;
    const { id } = page.task;
    page.keeper.close();
    page.tabs.tell("sent", { task: id });
    page.notices.clear();
    await page.local.delete(id);
    page.say(gettext("Sent."));
    if (progress) page.showProgress(progress);
    if (feedback) page.showFeedback(feedback);
    page.lastSent = id;
    if (next) await this.show(next);
    else if (waiting) page.rest(waiting);
    else await this.next();
  }

  notSent(error) {
    const { page } = this;
    page.isSubmitWaiting = error.kind !== "refused";
    if (error.kind === "offline" || error.kind === "busy") {
      page.notices.show("unsent", {
        text: error.kind === "offline"
          ? gettext("Not sent yet: there is no connection. It is kept in this browser and sent as soon as the connection is back.")
          : gettext("Not sent yet: the site is busy. It is tried again in a moment."),
        actions: [
          { text: gettext("Try now"), act: () => this.submit(), isPrimary: true },
          { text: gettext("Go on drawing"), act: () => this.recall() },
        ],
      });
      clearTimeout(this.retrying);
      this.retrying = setTimeout(() => page.isSubmitWaiting && this.submit(), error.retryAfter ? error.retryAfter * 1000 : RETRY_MS);
    } else if (error.kind === "signed-out") {
      page.keeper.isDirty = true;
      page.keeper.failed(error);
    } else if (error.code === "lease_lost") {
      page.keeper.failed(error);
    } else if (error.code === "draft_conflict") {
      page.keeper.isDirty = true;
      page.keeper.failed(error);
      if (page.keeper.state === "saved") setTimeout(() => this.submit()); // the same boxes in another order
    } else if (error.code === "superseded") {
      page.notices.show("refused", {
        text: error.problem.detail || gettext("A newer answer of yours is there already."), kind: "error", isUrgent: true,
        actions: [{ text: gettext("Show the newest"), act: () => this.open(page.task.id), isPrimary: true }],
      });
    } else {
      page.showRefusal(error);
    }
  }

  /** The person edits on instead of sending. */
  recall() {
    const { page } = this;
    page.isSubmitWaiting = false;
    clearTimeout(this.retrying);
    page.notices.hide("unsent");
  }

  async skip(reason, note) {
    const { page } = this;
    const { id } = page.task;
    await page.keeper.inFlight;
    const found = await this.attempt("skip", () => page.api.skip(id, { reason, note }), () => this.skip(reason, note));
    if (!found) return;
    page.keeper.close();
    await page.local.delete(id);
    page.notices.clear();
    page.say(gettext("Skipped."));
    await this.arrived(found);
  }

  /** Take the photo again after its fifteen minutes went by. */
  async retake() {
    const { page } = this;
    try {
      page.hold(await page.api.lease(page.task.id));
      page.setLocked(false);
      page.notices.hide("lease");
      await page.keeper.resume();
      if (page.isSubmitWaiting) await this.submit();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "lease_lost") page.tellTaken(error.message);
      else page.keeper.failed(error);
    }
  }

  /** One request whose failure is told with a way to try again; null when it failed. */
  async attempt(name, act, again) {
    const { page } = this;
    try {
      const result = await act();
      page.notices.hide(name);
      return result;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.kind === "signed-out") page.askToSignIn(again);
      else {
        page.notices.show(name, {
          text: error.kind === "refused" ? error.message : gettext("There is no answer from the site. Perhaps the connection is down."),
          kind: "error", isUrgent: true, actions: [{ text: gettext("Try again"), act: again, isPrimary: true }],
        });
      }
      return null;
    }
  }
}

/** The draft from which one's own answer was made is behind it. */
function isOlderThanAnswer({ draft, my_annotation: answer }) {
  return Boolean(draft && answer && new Date(draft.saved_at) <= new Date(answer.created_at));
}

/** The answer as it travels. */
export function contentOf(answer, seconds) {
  return { boxes: answer.list().map(toWire), is_empty: answer.isEmpty, seconds: Math.round(seconds * 10) / 10 };
}

/** "14 boxes, changed at 10:32" */
export function versionText({ boxes, is_empty }, moment) {
  const { length } = boxes;
  const count = is_empty ? gettext("No animal") : fill(ngettext("%(n)s box", "%(n)s boxes", length), { n: length });
  return fill(gettext("%(count)s, %(time)s"), { count, time: timeOf(moment) });
}

export { Answer };
