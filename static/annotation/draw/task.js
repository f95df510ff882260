// The drawing page: puts the parts together.
import { Api, ApiError } from "./api.js";
import { Clock } from "./clock.js";
import { commandsOf } from "./commands.js";
import { medianText, showComments, showWhy } from "./details.js";
import { DraftKeeper } from "./drafts.js";
import { Editor } from "./editor.js";
import { Answer, Flow, contentOf, versionText } from "./flow.js";
import { Gestures } from "./gestures.js";
import { Keys, keySheet } from "./keys.js";
import { LocalDrafts } from "./local-drafts.js";
import { Notices } from "./notices.js";
import { Panel } from "./panel.js";
import { SavingView } from "./saving-view.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";
import { Tabs } from "./tabs.js";
import { fill, gettext, language, minutes } from "./texts.js";

const ZERO_ID = "00000000-0000-0000-0000-000000000000";

class DrawingPage {
  constructor(root, config) {
    this.root = root;
    this.config = config;
    this.task = null;
    this.client = this.uuid();
    this.scene = { answer: null, photo: null, labels: new Map(), proposals: new Map(), weak: [], hidden: new Set(), isHidden: false };
    this.api = new Api(config.api);
    this.local = new LocalDrafts(config.user);
    this.clock = new Clock();
    this.notices = new Notices(this.find("[data-notices]"));
    this.savingView = new SavingView(root);
    this.stage = new Stage(this.find("[data-stage]"), this.scene, () => this.editor.hand());
    this.editor = new Editor(this.stage, this.scene, {
      select: (isQuiet) => this.selected(isQuiet), tool: (tool) => this.showTool(tool), drew: () => {},
    });
    this.panel = new Panel(root, this.scene, this.editor, { leave: () => this.stage.element.focus() });
    this.gestures = new Gestures(this.stage, this.editor, { onUse: () => this.used() });
    this.keeper = new DraftKeeper({
      api: this.api, local: this.local, client: this.client, read: () => this.read(),
      on: {
        state: (state, detail) => this.draftState(state, detail), lease: (lease) => this.hold(lease),
        conflict: () => this.askVersion(), saved: (version) => this.tabs.tell("saved", { version }),
      },
    });
    this.tabs = new Tabs(config.user, this.client, {
      other: (isThere) => this.showOtherTab(isThere), saved: () => this.followOtherTab(), sent: () => this.sentElsewhere(),
    });
    this.flow = new Flow(this);
    this.session = new Session(this);
    this.commands = commandsOf(this);
    this.keys = new Keys(this.stage.element, {
      command: (name) => this.command(name),
      digit: (digit) => this.digit(digit),
      arrow: (dx, dy, how) => this.commands.arrow(dx, dy, how),
      space: (isDown) => this.gestures.holdSpace(isDown),
    });
    this.listen();
  }

  find(selector) {
    return this.root.querySelector(selector) ?? document.querySelector(selector);
  }

  listen() {
    this.find("[data-keys]").replaceChildren(...keySheet());
    document.addEventListener("click", (event) => {
      const button = event.target.closest?.("[data-command]");
      if (button && button.getAttribute("aria-disabled") !== "true") this.command(button.dataset.command, button);
    });
    this.find("[data-again]").addEventListener("click", () => this.flow.next());
    for (const name of ["pointerdown", "keydown", "wheel"]) addEventListener(name, () => this.used(), { passive: true, capture: true });
    addEventListener("popstate", (event) => event.state?.task && this.flow.open(event.state.task, { isBack: true }));
    this.stage.onView((view) => {
      this.find("[data-zoom-level]").textContent = `${Math.round(view.scale * this.stage.ratio * 100)}\u202f%`;
    });
    setInterval(() => this.tick(), 1000);
  }

  // --- One photo begins, or none is there ---------------------------------------------------------------------
  wait(text) {
    this.root.dataset.state = "loading";
    this.find("[data-waiting]").hidden = true;
    this.root.hidden = false;
    const place = this.find("[data-stage-wait]");
    place.hidden = false;
    place.textContent = text;
  }

  begin(task, { boxes, isEmpty }, { isBack }) {
    this.task = task;
    this.isSubmitWaiting = false;
    const { scene } = this;
    const strong = task.proposals.filter((proposal) => !proposal.is_weak);
    scene.photo = { width: task.photo.width, height: task.photo.height };
    scene.labels = new Map(task.labels.map((label) => [label.code, label]));
    scene.proposals = new Map(task.proposals.map((proposal) => [proposal.number, proposal]));
    scene.weak = [];
    scene.isHidden = false;
    this.isLoading = true;
    scene.answer = new Answer(scene.photo, { onChange: (keys, boxes) => this.changed(keys, boxes) });
    this.editor.start(task.recent_labels?.[0] ?? task.labels[0]?.code ?? null);
    scene.answer.reset(this.numbered(boxes), isEmpty, strong.length + 1);
    this.isLoading = false;
    this.showTask(task, isBack);
  }

  /** The detector's boxes keep their numbers; what was drawn or taken is counted on after them. */
  numbered(boxes) {
    const strong = this.task.proposals.filter((proposal) => !proposal.is_weak).length;
    let next = strong + 1;
    return boxes.map((box) => ({ ...box, order: box.proposal !== null && box.proposal <= strong ? box.proposal : next++ }));
  }

  showTask(task, isBack) {
    this.root.dataset.state = "drawing";
    this.root.hidden = false;
    this.find("[data-waiting]").hidden = true;
    this.find("[data-photo-name]").textContent = task.photo.name;
    this.find("[data-submit-text]").textContent = task.my_annotation ? gettext("Send the correction") : gettext("Send, next photo");
    this.setLocked(false);
    this.panel.fill(task);
    this.showEdited();
    this.showPressed("hide", false);
    showWhy(this.find("[data-why]"), task.why, { onBox: (number) => this.goTo(number) });
    showComments(this.find("[data-comments]"), task.comments, { onBox: (number) => this.goTo(number) });
    this.showProgress(task.progress);
    this.tabs.open(task.id);
    this.hold(task.lease);
    this.showPicture(task.photo);
    const address = this.config.pages.task.replace(ZERO_ID, task.id);
    if (!isBack && location.pathname !== address) history[history.state?.task ? "pushState" : "replaceState"]({ task: task.id }, "", address);
    else if (!isBack) history.replaceState({ task: task.id }, "", address);
    document.title = `${task.photo.name} · ${document.title.split(" · ").slice(-1)}`;
    this.say(fill(gettext("%(name)s is open, boxes: %(n)s."), { name: task.photo.name, n: this.scene.answer.size }));
  }

  async showPicture(photo) {
    const place = this.find("[data-stage-wait]");
    place.hidden = false;
    place.textContent = gettext("The picture is being loaded.");
    try {
      await this.stage.show(photo);
      this.notices.hide("picture");
    } catch {
      if (this.task?.photo !== photo) return;
      this.notices.show("picture", {
        text: gettext("The picture could not be loaded."), kind: "error",
        actions: [{ text: gettext("Try again"), act: () => this.showPicture(photo), isPrimary: true }],
      });
    }
    if (this.task?.photo === photo) place.hidden = true;
  }

  /** Nothing to draw now. */
  rest(waiting) {
    this.task = null;
    this.tabs.open(null);
    this.stage.clear();
    this.root.hidden = true;
    this.find("[data-waiting]").hidden = false;
    this.find("[data-waiting-text]").textContent = waiting?.message ?? "";
    this.find("[data-waiting-title]").focus();
    history.replaceState(null, "", this.config.pages.draw);
  }

  // --- After edits -------------------------------------------------------------------------------------------
  read() {
    return contentOf(this.scene.answer, this.clock.seconds);
  }

  changed(keys, boxes) {
    if (this.isLoading || !this.task) return;
    this.editor.refresh(keys, boxes);
    this.panel.changed(keys);
    this.showEdited();
    if (this.isAdopting) return;
    this.flow.recall();
    this.notices.hide("empty");
    this.keeper.edited();
  }

  showEdited() {
    const { answer } = this.scene;
    this.find('[data-command="undo"]').setAttribute("aria-disabled", String(!answer.done.length));
    this.find('[data-command="redo"]').setAttribute("aria-disabled", String(!answer.undone.length));
    this.showPressed("empty", answer.isEmpty);
  }

  selected(isQuiet) {
    this.panel.chosen();
    const boxes = this.editor.chosen();
    if (boxes.length === 1 && !isQuiet) this.say(this.panel.list.sentence(boxes[0]));
  }

  showTool(tool) {
    this.showPressed("tool-select", tool === "select");
    this.showPressed("tool-draw", tool === "draw");
  }

  showPressed(command, isPressed) {
    for (const button of document.querySelectorAll(`[data-command="${command}"]`)) button.setAttribute("aria-pressed", String(isPressed));
  }

  goTo(number) {
    const box = this.scene.answer.list().find((other) => other.proposal === number) ?? this.scene.proposals.get(number)?.box;
    if (!box) return;
    if (box.key) this.editor.select([box.key]);
    this.stage.reveal(box);
  }

  setLocked(isLocked) {
    this.editor.isLocked = isLocked;
    this.root.classList.toggle("is-locked", isLocked);
    this.stage.redraw("hand");
  }

  digit(digit) {
    const label = this.panel.picker.byDigit(digit);
    if (!label || this.editor.isLocked) return;
    this.panel.relabel(label.code);
    this.say(this.editor.selection.length ? label.name : fill(gettext("New boxes: %(name)s"), { name: label.name }));
  }

  command(name, source) {
    if (!this.commands[name]) return;
    this.commands[name](source);
  }

  // --- What is said and shown ----------------------------------------------------------------------------------
  say(text) {
    this.find("[data-live]").textContent = text;
  }

  showProgress(progress) {
    if (!progress) return;
    this.find("[data-progress]").hidden = false;
    const number = (value) => Number(value ?? 0).toLocaleString(language());
    this.find("[data-mine-today]").textContent = number(progress.mine_today);
    this.find("[data-mine-total]").textContent = number(progress.mine_total);
    this.find("[data-team]").textContent = `${number(progress.team_done)} / ${number(progress.team_total)}`;
    this.find("[data-median-row]").hidden = !progress.median_seconds;
    this.find("[data-median]").textContent = medianText(progress.median_seconds);
  }

  showFeedback(feedback) {
    this.notices.show("feedback", { text: feedback.text, kind: "success", actions: [{ text: gettext("Close"), act: () => this.notices.hide("feedback") }] });
  }

  showRefusal(error) {
    const boxes = this.scene.answer.list();
    const actions = (error.problem.errors ?? []).slice(0, 5).map(({ field, detail }) => {
      const box = boxes[Number(String(field ?? "").match(/^boxes\[(\d+)\]/)?.[1] ?? NaN)];
      return {
        text: box ? fill(gettext("Box %(number)s: %(what)s"), { number: box.order, what: detail }) : detail,
        act: () => box && (this.editor.select([box.key]), this.stage.reveal(box)),
      };
    });
    this.notices.show("refused", { text: fill(gettext("Not accepted: %(why)s"), { why: error.message }), kind: "error", isUrgent: true, actions });
  }

  sending(isSending) {
    for (const button of document.querySelectorAll('[data-command="submit"]')) button.setAttribute("aria-disabled", String(isSending));
    this.root.toggleAttribute("aria-busy", isSending);
  }

  askEmpty() {
    this.notices.show("empty", {
      text: gettext("There is no box. Is there really no animal on this photo?"), isUrgent: true,
      actions: [
        { text: gettext("No animal: send"), isPrimary: true, act: () => { this.scene.answer.confirmEmpty(true); this.flow.submit(); } },
        { text: gettext("Go on drawing"), act: () => this.notices.hide("empty") },
      ],
    });
    this.find('[data-notice="empty"] button')?.focus();
  }

  used() {
    this.clock.used();
  }

  uuid() {
    if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
    // Plain http has no randomUUID.
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  tick() {
    if (!this.task) return;
    this.find("[data-clock]").textContent = minutes(this.clock.seconds);
    this.session.tick();
  }

  // --- Kept or not (session.js answers) ---------------------------------------------------------------------------
  hold(lease) {
    this.session.hold(lease);
  }

  draftState(state, detail) {
    this.session.draftState(state, detail);
  }

  askVersion() {
    this.session.askVersion();
  }

  askToSignIn(again) {
    this.session.askToSignIn(again);
  }

  tellTaken(why) {
    this.session.tellTaken(why);
  }

  showOtherTab(isThere) {
    this.session.showOtherTab(isThere);
  }

  followOtherTab() {
    return this.session.followOtherTab();
  }

  sentElsewhere() {
    this.session.sentElsewhere();
  }
}

const root = document.querySelector("[data-draw]");
const config = JSON.parse(document.getElementById("draw-config").textContent);
const page = new DrawingPage(root, config);
page.local.forgetOld();
if (config.task) page.flow.open(config.task);
else page.flow.next();

export { ApiError, page, versionText };
