// The keyboard: one table, from which both the listener and the "?" sheet are made.
import { element } from "./dom.js";
import { gettext } from "./texts.js";

const gettext_noop = (text) => text;

/** Groups of [keys to show, command or null, what it does]. A command's own keys are in BINDINGS. */
export const SHEET = [
  [gettext_noop("Boxes"), [
    ["D", gettext_noop("Tool: draw")],
    ["V", gettext_noop("Tool: select")],
    ["N", gettext_noop("New box in the middle of the view")],
    ["← ↑ → ↓", gettext_noop("Move the box; without one, move the picture")],
    ["Shift + ← ↑ → ↓", gettext_noop("Change the size of the box")],
    ["Ctrl + ← ↑ → ↓", gettext_noop("The same in larger steps")],
    ["J / K", gettext_noop("Next box, previous box")],
    ["C", gettext_noop("Duplicate")],
    ["Del", gettext_noop("Delete")],
    ["Ctrl + A", gettext_noop("Select all boxes")],
    ["Ctrl + Z", gettext_noop("Undo")],
    ["Ctrl + Y", gettext_noop("Redo")],
  ]],
  [gettext_noop("Labels"), [
    ["1 … 9", gettext_noop("Give this label")],
    ["L", gettext_noop("Search a label, or propose a new one")],
    ["U", gettext_noop("Not certain, or certain again")],
    ["M", gettext_noop("Write a note")],
  ]],
  [gettext_noop("Picture"), [
    ["+ / −", gettext_noop("Zoom in, zoom out")],
    ["F, 0", gettext_noop("Whole picture")],
    ["R", gettext_noop("Real pixels (1:1)")],
    ["Z", gettext_noop("Zoom to the box")],
    ["Space", gettext_noop("Hold to move the picture")],
    ["H", gettext_noop("Hide or show the boxes")],
    ["B", gettext_noop("Brightness and contrast")],
    ["W", gettext_noop("Possible animals")],
  ]],
  [gettext_noop("Answer"), [
    ["S, Ctrl + Enter", gettext_noop("Send, next photo")],
    ["E", gettext_noop("No animal on this photo")],
    ["P", gettext_noop("Skip")],
    ["Q", gettext_noop("Why this photo?")],
    ["Esc", gettext_noop("Let go of the box, back to the picture")],
    ["?", gettext_noop("This sheet")],
  ]],
];

const SINGLE = {
  v: "tool-select", d: "tool-draw", n: "new", c: "duplicate", u: "uncertain", m: "note", l: "label", e: "empty",
  s: "submit", p: "skip", j: "next-box", k: "previous-box", z: "zoom-box", f: "fit", r: "real", h: "hide", b: "adjust",
  w: "weak", q: "why", "?": "help", "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", 0: "fit",
};
const CONTROL = { z: "undo", y: "redo", a: "select-all", Enter: "submit" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TYPING = "input:not([type=checkbox], [type=radio], [type=range], [type=button]), textarea, select, [contenteditable]";

export class Keys {
  /** `on` = {command(name), digit(n), arrow(dx, dy, {resize, large}), space(isDown)} */
  constructor(stageElement, on) {
    this.stage = stageElement;
    this.on = on;
    this.areSingleOn = true;
    document.addEventListener("keydown", (event) => this.down(event));
    document.addEventListener("keyup", (event) => {
      if (event.key === " ") on.space(false);
    });
    addEventListener("blur", () => on.space(false));
  }

  down(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const command = this.meaning(event);
    if (!command) return;
    event.preventDefault();
    command();
  }

  meaning(event) {
    const { on } = this;
    const isTyping = event.target.matches?.(TYPING);
    const hasControl = event.ctrlKey || event.metaKey;
    if (event.altKey) return null;
    if (hasControl && event.key === "Enter") return () => on.command("submit");
    if (event.key === "Escape") return () => on.command("escape");
    if (isTyping) return null;
    if (ARROWS[event.key]) return this.arrow(event, hasControl);
    if (hasControl) return this.withControl(event);
    return this.single(event);
  }

  arrow(event, isLarge) {
    if (event.target !== this.stage && event.target !== document.body) return null;
    return () => this.on.arrow(...ARROWS[event.key], { resize: event.shiftKey, large: isLarge });
  }

  withControl(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "z" && event.shiftKey) return () => this.on.command("redo");
    const name = CONTROL[key];
    return name ? () => this.on.command(name) : null;
  }

  single(event) {
    const isButton = event.target.matches?.("button, a, summary, input");
    if (event.key === " ") return isButton ? null : () => this.on.space(true);
    if (event.key === "Delete" || event.key === "Backspace") return () => this.on.command("delete");
    if (!this.areSingleOn) return event.target === this.stage ? this.letter(event) : null;
    return this.letter(event);
  }

  letter(event) {
    // By its place: a French keyboard gives digits with Shift only.
    const digit = event.code.match(/^(?:Digit|Numpad)([1-9])$/)?.[1];
    if (digit && !/[?+=\-/]/.test(event.key)) return () => this.on.digit(Number(digit));
    const name = SINGLE[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    return name ? () => this.on.command(name) : null;
  }
}

/** The "?" sheet. */
export function keySheet() {
  return SHEET.map(([title, rows]) =>
    element(
      "section", {}, element("h3", { text: gettext(title) }),
      element("dl", { class: "draw-keys__list" }, ...rows.flatMap(([keys, text]) => [
        element("dt", {}, ...keys.split(/( \/ |, )/).map((key) => (/^( \/ |, )$/.test(key) ? element("span", { text: key }) : element("kbd", { text: key })))),
        element("dd", { text: gettext(text) }),
      ])),
    ),
  );
}
