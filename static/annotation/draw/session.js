// Session, lease, connection, other tabs: what can come between a person and their drawing, and the way back.
import { ApiError } from "./api.js";
import { Adjust } from "./commands.js";
import { versionText } from "./flow.js";
import { fill, gettext } from "./texts.js";

const HEARTBEAT_S = 90;
const ACTIVE_WITHIN_S = 300;
const WARN_S = 120;
const ASK_SESSION_MS = 5000;

export class Session {
  constructor(page) {
    this.page = page;
    this.leaseUntil = null;
    this.heldAt = 0;
    this.adjust = new Adjust(page);
    this.listen();
  }

  listen() {
    const { page } = this;
    addEventListener("online", () => this.back());
    addEventListener("pagehide", () => {
      page.keeper.leave();
      page.tabs.tell("gone");
    });
    addEventListener("pageshow", (event) => event.persisted && page.task && page.tabs.open(page.task.id));
    document.addEventListener("visibilitychange", () => {
      const isSeen = document.visibilityState === "visible";
      page.clock.seen(isSeen);
      if (isSeen) this.back();
      else page.keeper.save();
    });
    for (const link of document.querySelectorAll("[data-back]")) link.addEventListener("click", () => this.giveBack());
    page.find("[data-skip-form]").addEventListener("submit", (event) => {
      if (event.submitter?.value !== "skip") return;
      const form = event.target;
      page.flow.skip(form.elements.reason.value, form.querySelector("#skip-note").value.trim());
      form.reset();
    });
    for (const button of document.querySelectorAll("[data-version]")) {
      button.addEventListener("click", () => this.choose(button.dataset.version));
    }
    this.singleKeys();
  }

  /** Single letters as shortcuts can be switched off (WCAG 2.1.4); they then act while the picture has the focus. */
  singleKeys() {
    const box = this.page.find("#single-keys");
    try {
      box.checked = localStorage.getItem("podura-draw-single-keys") !== "off";
    } catch {
      box.checked = true;
    }
    const apply = () => (this.page.keys.areSingleOn = box.checked);
    queueMicrotask(apply);
    box.addEventListener("change", () => {
      apply();
      try {
        localStorage.setItem("podura-draw-single-keys", box.checked ? "on" : "off");
      } catch {
        // Then it lasts as long as the page.
      }
    });
  }

  // --- The lease ---------------------------------------------------------------------------------------------
  hold(lease) {
    this.leaseUntil = null;
    if (!lease) return;
    this.leaseUntil = performance.now() + lease.seconds_left * 1000;
    this.heldAt = performance.now();
    if (lease.is_mine === false) this.lost();
    else this.page.notices.hide("lease");
  }

  get secondsLeft() {
    return this.leaseUntil === null ? Infinity : (this.leaseUntil - performance.now()) / 1000;
  }

  async tick() {
    const { page } = this;
    if (!page.task || page.keeper.state === "lease-lost" || page.keeper.state === "signed-out") return;
    const left = this.secondsLeft;
    const isActive = page.clock.idle < ACTIVE_WITHIN_S && document.visibilityState === "visible";
    const age = (performance.now() - this.heldAt) / 1000;
    if (left <= 0 && page.keeper.state !== "offline") this.lost();
    else if (isActive && age > HEARTBEAT_S) await this.beat();
    else if (left < WARN_S && !page.notices.has("lease")) {
      page.notices.show("lease", {
        text: gettext("You have not drawn for a while. In less than two minutes the photo goes back to the queue; your drawing is kept."),
        actions: [{ text: gettext("I am still here"), act: () => this.beat(), isPrimary: true }],
      });
    }
  }

  async beat() {
    const { page } = this;
    this.heldAt = performance.now(); // not again before the answer is here
    const { id } = page.task;
    try {
      const lease = await page.api.lease(id);
      if (page.task?.id === id) this.hold(lease);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (page.task?.id !== id) return;
      if (error.kind === "refused" || error.kind === "signed-out") page.keeper.failed(error);
    }
  }

  /** Who leaves without having drawn anything does not keep the photo from others for a quarter of an hour. */
  giveBack() {
    const { page } = this;
    if (page.task && !page.task.my_annotation && page.keeper.state === "clean") page.api.release(page.task.id).catch(() => {});
  }

  lost() {
    const { page } = this;
    if (page.keeper.state !== "lease-lost") page.keeper.become("lease-lost");
  }

  /** `why` comes from the server: somebody else works on it, it was answered, it was set aside. */
  tellTaken(why) {
    this.page.setLocked(true);
    this.page.notices.show("lease", {
      text: why, isUrgent: true,
      actions: [
        { text: gettext("Next photo"), act: () => this.leaveTask(), isPrimary: true },
        { text: gettext("Try again"), act: () => this.page.flow.retake() },
      ],
    });
  }

  leaveTask() {
    this.page.keeper.close();
    this.page.notices.clear();
    this.page.flow.next();
  }

  // --- What the draft keeper says ------------------------------------------------------------------------------
  draftState(state, detail) {
    const { page } = this;
    if (state === "saved") this.savedAt = Date.now();
    page.savingView.show(state, { isKeptHere: page.keeper.isKeptHere, savedAt: this.savedAt });
    if (state !== "signed-out" && state !== "closed") page.notices.hide("session");
    if (state === "offline") this.tellOffline(detail);
    else page.notices.hide("offline");
    if (state === "signed-out") this.askToSignIn(() => page.keeper.resume());
    if (state === "lease-lost") this.tellLost();
    if (state === "refused" && detail) page.showRefusal(detail);
    else if (state === "saved") page.notices.hide("refused");
  }

  tellOffline(error) {
    this.page.notices.show("offline", {
      text: error?.kind === "busy"
        ? gettext("The site does not answer just now. Go on drawing: everything is kept in this browser and saved as soon as it answers.")
        : gettext("No connection. Go on drawing: everything is kept in this browser and saved as soon as the connection is back."),
    });
  }

  tellLost() {
    const { page } = this;
    page.notices.show("lease", {
      text: gettext("The time to hold this photo went by, so it went back to the queue. Your drawing is kept."), isUrgent: true,
      actions: [
        { text: gettext("Take it again"), act: () => page.flow.retake(), isPrimary: true },
        { text: gettext("Next photo"), act: () => this.leaveTask() },
      ],
    });
  }

  /** The connection is back, or the person is: whatever waited goes on. */
  back() {
    const { page } = this;
    page.stage.picture.retry();
    if (this.asking) this.askSession();
    if (page.keeper.state === "offline") page.keeper.resume();
    if (page.isSubmitWaiting && !page.flow.isSending && page.keeper.state !== "signed-out") page.flow.submit();
  }

  // --- The session ---------------------------------------------------------------------------------------------
  askToSignIn(again) {
    const { page } = this;
    this.again = again;
    page.notices.show("session", {
      text: gettext("Your session has ended. Nothing is lost: it is kept in this browser. Sign in in another tab, and this page goes on."),
      isUrgent: true,
      actions: [
        { text: gettext("Sign in in another tab"), href: `${page.config.pages.sign_in}?next=${encodeURIComponent(page.config.pages.signed_in)}`, isPrimary: true },
        { text: gettext("I have signed in"), act: () => this.askSession() },
      ],
    });
    clearInterval(this.asking);
    this.asking = setInterval(() => document.visibilityState === "visible" && this.askSession(), ASK_SESSION_MS);
  }

  async askSession() {
    const { page } = this;
    let user;
    try {
      const response = await fetch(page.config.pages.session, { credentials: "same-origin", headers: { Accept: "application/json" } });
      ({ user } = await response.json());
    } catch {
      return; // asked again soon
    }
    if (!user || !this.asking) return;
    if (user !== page.config.user) {
      page.notices.show("stranger", { text: gettext("Somebody else is signed in in this browser now. Sign in with your own account to go on."), kind: "error", isUrgent: true });
      return;
    }
    clearInterval(this.asking);
    this.asking = null;
    page.notices.hide("session");
    page.notices.hide("stranger");
    await this.again?.();
    if (page.isSubmitWaiting) await page.flow.submit();
  }

  // --- Two tabs, two versions ------------------------------------------------------------------------------------
  showOtherTab(isThere) {
    const { page } = this;
    if (isThere) page.notices.show("tabs", { text: gettext("This photo is open in another tab of yours, too. Draw in one of them.") });
    else page.notices.hide("tabs");
  }

  /** Another tab saved: a tab without edits of its own follows it. */
  async followOtherTab() {
    const { page } = this;
    const { id } = page.task;
    if (page.keeper.isDirty || page.keeper.state === "saving") return; // its own save will ask
    try {
      const task = await page.api.task(id);
      if (page.task?.id !== id || page.keeper.isDirty || !task.draft || task.draft.version <= page.keeper.base) return;
      this.adopt(task.draft);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  adopt(draft) {
    const { page } = this;
    page.isAdopting = true;
    page.scene.answer.replace(page.numbered(draft.boxes), draft.is_empty);
    page.isAdopting = false;
    page.keeper.tookTheirs(draft);
  }

  sentElsewhere() {
    const { page } = this;
    page.keeper.close();
    page.setLocked(true);
    page.notices.show("sent", {
      text: gettext("You sent this photo in another tab."),
      actions: [{ text: gettext("Next photo"), act: () => this.leaveTask(), isPrimary: true }],
    });
  }

  askVersion() {
    const { page } = this;
    const draft = page.keeper.theirs;
    if (!draft) return;
    const dialog = page.find("#versions-dialog");
    page.find("[data-versions-why]").textContent = gettext("This photo was drawn on in another tab or on another device. Nothing was overwritten.");
    page.find("[data-version-mine]").textContent = versionText(page.read(), Date.now());
    page.find("[data-version-theirs]").textContent = versionText(draft, draft.saved_at);
    if (!dialog.open) dialog.showModal();
    page.notices.show("versions", {
      text: fill(gettext("There are two versions of your drawing (%(mine)s; %(theirs)s)."), {
        mine: versionText(page.read(), Date.now()), theirs: versionText(draft, draft.saved_at),
      }),
      actions: [{ text: gettext("Choose one"), act: () => this.askVersion(), isPrimary: true }],
    });
  }

  async choose(which) {
    const { page } = this;
    const draft = page.keeper.theirs;
    page.find("#versions-dialog").close();
    page.notices.hide("versions");
    if (!draft) return;
    if (which === "mine") await page.keeper.keepMine(draft);
    else this.adopt(draft);
    page.stage.element.focus();
  }
}
