// The boxes as a list: what the canvas shows, for screen readers, for keys, and for finding one among a thousand.
import { element, setText, swatch } from "./dom.js";
import { fateOf } from "./answer.js";
import { fill, gettext, percent } from "./texts.js";

const MANY = 40; // more rows at once are made anew faster than one by one

export class BoxList {
  /** `on` = {choose(key, {add}), point(key)} */
  constructor(list, on) {
    this.list = list;
    this.on = on;
    this.rows = new Map();
    this.chosen = new Set();
    this.listen();
  }

  listen() {
    const keyOf = (event) => event.target.closest?.("[data-key]")?.dataset.key ?? null;
    this.list.addEventListener("click", (event) => {
      const key = keyOf(event);
      if (key) this.on.choose(key, { add: event.shiftKey || event.ctrlKey || event.metaKey });
    });
    this.list.addEventListener("pointerover", (event) => this.on.point(keyOf(event)));
    this.list.addEventListener("pointerleave", () => this.on.point(null));
    this.list.addEventListener("keydown", (event) => {
      const keys = [...this.rows.keys()];
      const at = keys.indexOf(keyOf(event));
      const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: keys.length - 1 }[event.key];
      if (at === -1 || next === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      if (keys[next] === undefined) return;
      this.on.choose(keys[next], { add: false });
      this.focus(keys[next]);
    });
  }

  focus(key) {
    this.rows.get(key)?.firstElementChild.focus({ preventScroll: false });
  }

  /** `keys` null: everything anew. */
  update(keys, answer, scene) {
    if (keys === null || keys.length > MANY) {
      this.rows.clear();
      const made = answer.list().map((box) => {
        const row = this.row(box);
        this.rows.set(box.key, row);
        this.describe(row, box, scene);
        return row;
      });
      this.list.replaceChildren(...made);
      for (const key of this.chosen) this.mark(key, true);
    } else {
      for (const key of keys) this.updateOne(key, answer, scene);
    }
    this.keepOneStop();
  }

  updateOne(key, answer, scene) {
    const box = answer.get(key);
    let row = this.rows.get(key);
    if (!box) {
      const hadFocus = row?.contains(document.activeElement);
      row?.remove();
      this.rows.delete(key);
      if (hadFocus) this.lostFocus = true;
      return;
    }
    if (!row) {
      row = this.row(box);
      const list = answer.list();
      const after = list[list.indexOf(box) + 1];
      const before = after && this.rows.get(after.key);
      this.rows.set(key, row);
      if (before) {
        before.before(row);
        // The map's order is the list's: arrow keys walk along it.
        this.rows = new Map(list.filter((other) => this.rows.has(other.key)).map((other) => [other.key, this.rows.get(other.key)]));
      } else {
        this.list.append(row);
      }
    }
    this.describe(row, box, scene);
  }

  row(box) {
    return element(
      "li", { class: "box-row", data: { key: box.key } },
      element(
        "button", { type: "button", class: "box-row__main", tabindex: "-1" },
        element("span", { class: "box-row__number num" }), element("span", { class: "box-row__dot" }),
        element("span", { class: "box-row__name" }), element("span", { class: "box-row__fate" }),
      ),
    );
  }

  describe(row, box, scene) {
    const [number, dot, name, fate] = row.firstElementChild.children;
    const label = scene.labels.get(box.label);
    setText(number, String(box.order));
    if (dot.dataset.label !== box.label) {
      dot.dataset.label = box.label;
      dot.replaceChildren(swatch(label?.colour ?? "#ffffff"));
    }
    setText(name, box.proposed_label || label?.name || box.label);
    setText(fate, this.fate(box, scene));
    row.classList.toggle("is-uncertain", box.is_uncertain);
  }

  fate(box, scene) {
    const parts = [];
    const { isDrawn, isMoved, isRelabelled } = fateOf(box, scene.proposals);
    if (isDrawn) parts.push(gettext("drawn"));
    else parts.push(percent(scene.proposals.get(box.proposal).score));
    if (isMoved) parts.push(gettext("moved"));
    if (isRelabelled && !box.proposed_label) parts.push(gettext("renamed"));
    if (box.proposed_label) parts.push(gettext("new label"));
    if (box.is_uncertain) parts.push(gettext("not certain"));
    if (box.note) parts.push(gettext("note"));
    return parts.join(" · ");
  }

  choose(keys) {
    for (const key of this.chosen) this.mark(key, false);
    this.chosen = new Set(keys);
    for (const key of keys) this.mark(key, true);
    this.keepOneStop();
    this.scrollSoon(keys.at(-1));
  }

  /** After the frame that shows the edit: asking where a row lies lays a thousand rows out. */
  scrollSoon(key) {
    const isAsked = this.scrollKey !== undefined;
    this.scrollKey = key ?? null;
    if (isAsked) return;
    requestAnimationFrame(() => setTimeout(() => {
      const wanted = this.scrollKey;
      this.scrollKey = undefined;
      if (wanted) this.scrollTo(wanted);
    }));
  }

  mark(key, isChosen) {
    const row = this.rows.get(key);
    if (!row) return;
    row.classList.toggle("is-chosen", isChosen);
    if (isChosen) row.firstElementChild.setAttribute("aria-current", "true");
    else row.firstElementChild.removeAttribute("aria-current");
  }

  /** The list is one stop of the Tab key: the box in hand, else the first. */
  keepOneStop() {
    const stop = this.rows.get([...this.chosen].at(-1)) ?? this.rows.values().next().value;
    if (this.stop !== stop || !stop?.isConnected) {
      if (this.stop) this.stop.firstElementChild.tabIndex = -1;
      this.stop = stop;
    }
    if (stop) stop.firstElementChild.tabIndex = 0;
    if (this.lostFocus && stop) stop.firstElementChild.focus();
    this.lostFocus = false;
  }

  /** Scrolls the list, never the panel: what is being typed into stays in sight. */
  scrollTo(key) {
    const row = this.rows.get(key);
    const frame = this.list;
    if (!row || frame.scrollHeight <= frame.clientHeight) return;
    const shown = frame.getBoundingClientRect();
    const mine = row.getBoundingClientRect();
    if (mine.top < shown.top) frame.scrollTop += mine.top - shown.top - 12;
    else if (mine.bottom > shown.bottom) frame.scrollTop += mine.bottom - shown.bottom + 12;
  }

  sentence(box, scene) {
    const name = box.proposed_label || scene.labels.get(box.label)?.name || box.label;
    return fill(gettext("Box %(number)s, %(name)s, %(fate)s"), { number: box.order, name, fate: this.fate(box, scene) });
  }
}
