// What the page has to say above the picture, each thing once, with what can be done about it.
import { element } from "./dom.js";

export class Notices {
  constructor(place) {
    this.place = place;
    this.shown = new Map();
  }

  /** `actions`: [{text, act, isPrimary}]. An urgent notice is read out at once. */
  show(name, { text, kind = "warning", actions = [], isUrgent = false, body = null, seconds = 0 }) {
    const old = this.shown.get(name);
    if (old?.text === text && old.actions === actions.length && !body) return;
    this.hide(name);
    const made = element(
      "div", { class: `notice notice--${kind} draw-notice`, role: isUrgent ? "alert" : "status", data: { notice: name } },
      element("p", { text }), body,
      actions.length
        ? element("p", { class: "row" }, ...actions.map(({ text: label, act, isPrimary, href }) => this.action(label, act, isPrimary, href)))
        : null,
    );
    this.place.append(made);
    const timer = seconds ? setTimeout(() => this.hide(name), seconds * 1000) : 0;
    this.shown.set(name, { made, text, actions: actions.length, timer });
  }

  action(label, act, isPrimary, href) {
    const look = `button button--small${isPrimary ? " button--primary" : ""}`;
    if (href) return element("a", { class: look, href, target: "_blank", rel: "noopener", text: label });
    const button = element("button", { type: "button", class: look, text: label });
    button.addEventListener("click", act);
    return button;
  }

  hide(name) {
    const old = this.shown.get(name);
    if (!old) return;
    clearTimeout(old.timer);
    old.made.remove();
    this.shown.delete(name);
  }

  has(name) {
    return this.shown.has(name);
  }

  clear() {
    for (const name of [...this.shown.keys()]) this.hide(name);
  }
}
