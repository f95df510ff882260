// Everything beside the picture follows the answer and what is in hand.
import { differences } from "./answer.js";
import { BoxList } from "./box-list.js";
import { element, setText, swatch } from "./dom.js";
import { LabelPicker } from "./labels.js";
import { fill, gettext, ngettext, percent } from "./texts.js";

const WEAK_LISTED = 60;

export class Panel {
  constructor(root, scene, editor, { leave }) {
    this.root = root;
    this.scene = scene;
    this.editor = editor;
    this.leave = leave;
    const find = (selector) => root.querySelector(selector);
    this.parts = {
      inspector: find("[data-inspector]"), title: find("[data-inspector-title]"), fate: find("[data-inspector-fate]"),
      uncertain: find("#box-uncertain"), note: find("#box-note"), changes: find("[data-changes]"),
      empty: find("[data-list-empty]"), weakPanel: find("[data-weak-panel]"), weakInput: find("#weak-threshold"),
      weakValue: find("[data-weak-value]"), weakCount: find("[data-weak-count]"), weakList: find("[data-weak-list]"),
    };
    this.counts = root.querySelectorAll("[data-box-count]");
    this.list = new BoxList(find("[data-box-list]"), scene, {
      choose: (key, { add }) => {
        if (add) editor.toggle(key);
        else editor.select([key]);
        editor.keepInSight();
      },
      point: (key) => editor.point(key),
    });
    this.picker = new LabelPicker(root, {
      choose: (code) => this.editor.isLocked || this.relabel(code),
      propose: (name) => this.propose(name),
      leave,
    });
    this.listen();
  }

  listen() {
    const { uncertain, note, weakInput, weakList } = this.parts;
    uncertain.addEventListener("change", () => this.editor.isLocked ? this.chosen() : this.editor.setUncertain(uncertain.checked));
    note.addEventListener("input", () => {
      if (!this.editor.isLocked) this.editor.setNote(note.value.slice(0, 500));
    });
    note.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) this.leave();
    });
    weakInput.addEventListener("input", () => this.showWeak());
    weakList.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const proposal = button && this.scene.proposals.get(Number(button.dataset.number));
      if (proposal && !this.editor.isLocked) {
        this.editor.take(proposal);
        this.editor.keepInSight();
      }
    });
  }

  /** A new photo. */
  fill(task) {
    this.picker.fill(task.labels, task.recent_labels ?? []);
    this.weak = task.proposals.filter((proposal) => proposal.is_weak);
    const scores = this.weak.map((proposal) => proposal.score);
    const { weakInput } = this.parts;
    weakInput.min = String(Math.max(1, Math.floor(Math.min(...scores, 1) * 100)));
    weakInput.max = String(Math.ceil(Math.max(...scores, 0) * 100) + 1);
    weakInput.value = weakInput.max;
    weakInput.disabled = !scores.length;
    this.showWeak();
    this.changed(null);
    this.chosen();
  }

  relabel(code) {
    this.editor.relabel(code);
    this.chosen();
  }

  propose(name) {
    if (!this.editor.isLocked) this.editor.proposeLabel(name);
    this.chosen();
  }

  /** After an edit of these boxes; null: of all. */
  changed(keys) {
    const { answer } = this.scene;
    this.list.update(keys);
    for (const count of this.counts) setText(count, String(answer.size));
    setText(this.parts.changes, this.changesText());
    this.parts.empty.hidden = answer.size > 0;
    setText(this.parts.empty, answer.isEmpty ? gettext("You say: no animal on this photo.") : gettext("No box yet. Draw one, or say that there is no animal."));
    if (keys === null || keys.some((key) => this.editor.selection.includes(key))) this.chosen();
    if (this.weak?.length) this.showWeak();
  }

  changesText() {
    const { answer, proposals } = this.scene;
    const counts = differences(answer.list(), proposals);
    const parts = [];
    const add = (text, n) => n && parts.push(fill(text, { n }));
    add(gettext("%(n)s as proposed"), counts.kept);
    add(gettext("%(n)s moved"), counts.moved);
    add(gettext("%(n)s renamed"), counts.relabelled);
    add(gettext("%(n)s drawn"), counts.drawn);
    add(gettext("%(n)s deleted"), counts.deleted);
    return parts.join(" · ");
  }

  /** After something else came into the hand. */
  chosen() {
    const { editor, parts, scene } = this;
    const boxes = editor.chosen();
    this.list.choose(editor.selection);
    parts.inspector.hidden = boxes.length === 0;
    if (!boxes.length) {
      this.picker.show(gettext("Label of new boxes"), editor.label, editor.proposed);
      return;
    }
    const [first] = boxes;
    const isOne = boxes.length === 1;
    const isSame = boxes.every((box) => box.label === first.label && box.proposed_label === first.proposed_label);
    const title = isOne
      ? fill(gettext("Label of box %(number)s"), { number: first.order })
      : fill(ngettext("Label of %(n)s box", "Label of %(n)s boxes", boxes.length), { n: boxes.length });
    this.picker.show(title, isSame ? first.label : null, isSame ? first.proposed_label : "");
    setText(parts.title, isOne ? fill(gettext("Box %(number)s"), { number: first.order }) : fill(ngettext("%(n)s box", "%(n)s boxes", boxes.length), { n: boxes.length }));
    setText(parts.fate, isOne ? this.proposalText(first) : "");
    parts.uncertain.checked = boxes.every((box) => box.is_uncertain);
    parts.uncertain.indeterminate = !parts.uncertain.checked && boxes.some((box) => box.is_uncertain);
    if (document.activeElement !== parts.note) parts.note.value = boxes.every((box) => box.note === first.note) ? first.note : "";
    for (const control of [parts.uncertain, parts.note, ...parts.inspector.querySelectorAll("button")]) control.disabled = editor.isLocked;
    if (scene.isHidden) this.list.scrollSoon(editor.selection.at(-1));
  }

  /** What the detector had said of the box. */
  proposalText(box) {
    const size = fill(gettext("%(width)s × %(height)s px"), { width: Math.round(box.x_max - box.x_min), height: Math.round(box.y_max - box.y_min) });
    const proposal = this.scene.proposals.get(box.proposal);
    const added = box.proposed_label ? ` ${gettext("A curator looks at the new label; until then the nearest one counts:")} ${this.nameOf(box.label)}.` : "";
    if (!proposal) return fill(gettext("Drawn by hand, %(size)s."), { size }) + added;
    const best = (proposal.best ?? [[proposal.label, proposal.score]]).slice(0, 3);
    const names = best.map(([code, score]) => `${this.nameOf(code)} ${percent(score)}`).join(", ");
    return fill(gettext("The detector: %(names)s. %(size)s."), { names, size }) + added;
  }

  nameOf(code) {
    return this.scene.labels.get(code)?.name ?? code;
  }

  // --- Possible animals: what the detector is less sure of than the survey shows ------------------------------
  showWeak() {
    const { weakInput, weakValue, weakCount, weakList } = this.parts;
    const least = Number(weakInput.value) / 100;
    const isOff = weakInput.value === weakInput.max;
    const taken = new Set(this.scene.answer.list().map((box) => box.proposal));
    const left = (this.weak ?? []).filter((proposal) => !taken.has(proposal.number));
    this.scene.weak = isOff ? [] : left.filter((proposal) => proposal.score >= least);
    setText(weakValue, isOff ? gettext("none") : percent(least));
    const { length } = this.scene.weak;
    setText(weakCount, left.length
      ? fill(ngettext("%(n)s shown of %(all)s. Click it on the picture to take it.", "%(n)s shown of %(all)s. Click one on the picture to take it.", length), { n: length, all: left.length })
      : gettext("The detector saw nothing else."));
    weakList.replaceChildren(...this.scene.weak.slice(0, WEAK_LISTED).map((proposal) => this.weakRow(proposal)));
    this.editor.stage.redraw("boxes");
  }

  weakRow(proposal) {
    const label = this.scene.labels.get(proposal.label);
    return element("li", {}, element(
      "button", { type: "button", class: "quick-label", data: { number: proposal.number } },
      swatch(label?.colour ?? "#ffffff"), element("span", { text: `${label?.name ?? proposal.label} ${percent(proposal.score)}` }),
    ));
  }
}
