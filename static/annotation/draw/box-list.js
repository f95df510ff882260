// The boxes as a list: what the canvas shows, for screen readers, for keys, and for finding one among a thousand.
import { element, setText, swatch } from "./dom.js";
import { fateOf } from "./answer.js";
import { fill, gettext, ngettext, percent } from "./texts.js";

// Rows in the page at a time. A thousand of them cost each edit 10 ms of layout and painting (benchmarks/drawing.py).
const WINDOW = 120;

export class BoxList {
  /** `on` = {choose(key, {add}), point(key)} */
  constructor(list, scene, on) {
    this.list = list;
    this.scene = scene;
    this.on = on;
    this.rows = new Map();
    this.start = 0;
    this.chosen = new Set();
    this.before = this.more("earlier");
    this.after = this.more("later");
    list.before(this.before);
    list.after(this.after);
    this.listen();
  }

  more(direction) {
    const button = element("button", { type: "button", class: "link-button box-list__more", hidden: true });
    button.addEventListener("click", () => {
      this.start += direction === "later" ? WINDOW : -WINDOW;
      this.fill();
      this.list.scrollTop = direction === "later" ? 0 : this.list.scrollHeight;
    });
    return button;
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
      const boxes = this.scene.answer.list();
      const at = boxes.findIndex((box) => box.key === keyOf(event));
      const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: boxes.length - 1 }[event.key];
      if (at === -1 || next === undefined || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      if (!boxes[next]) return;
      this.on.choose(boxes[next].key, { add: false });
      this.focus(boxes[next].key);
    });
  }

  focus(key) {
    this.rows.get(key)?.firstElementChild.focus();
  }

  /** `keys` null: everything anew. */
  update(keys) {
    const { answer } = this.scene;
    if (keys === null) this.rows.clear();
    const isSame = keys?.every((key) => Boolean(answer.get(key)) === this.known?.has(key));
    if (keys === null || !isSame) this.fill();
    for (const key of keys ?? []) {
      const row = this.rows.get(key);
      if (row) this.describe(row, answer.get(key));
    }
    this.keepOneStop();
  }

  /** Rows of the window, in the order of the answer; those that stay are not touched. */
  fill() {
    const boxes = this.scene.answer.list();
    const hadFocus = this.list.contains(document.activeElement);
    this.known = new Set(boxes.map((box) => box.key));
    this.start = Math.max(0, Math.min(this.start, boxes.length - 1 - ((boxes.length - 1) % WINDOW)));
    const shown = boxes.slice(this.start, this.start + WINDOW);
    const rows = new Map();
    for (const box of shown) {
      const row = this.rows.get(box.key) ?? this.row(box);
      if (!this.rows.has(box.key)) this.describe(row, box);
      rows.set(box.key, row);
    }
    this.rows = rows;
    this.place([...rows.values()]);
    this.number(boxes.length);
    for (const key of this.chosen) this.mark(key, true);
    this.keepOneStop();
    if (hadFocus && !this.list.contains(document.activeElement)) this.stop?.firstElementChild.focus();
  }

  place(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.list.children]) if (!wanted.has(row)) row.remove();
    let at = this.list.firstElementChild;
    for (const row of rows) {
      if (row === at) at = at.nextElementSibling;
      else this.list.insertBefore(row, at);
    }
  }

  number(total) {
    const isPart = total > WINDOW;
    let position = this.start;
    for (const row of this.rows.values()) {
      position += 1;
      if (isPart) {
        row.setAttribute("aria-posinset", position);
        row.setAttribute("aria-setsize", total);
      } else if (row.hasAttribute("aria-setsize")) {
        row.removeAttribute("aria-posinset");
        row.removeAttribute("aria-setsize");
      }
    }
    const later = total - this.start - this.rows.size;
    this.before.hidden = this.start === 0;
    this.after.hidden = later <= 0;
    setText(this.before, fill(ngettext("%(n)s box before", "%(n)s boxes before", this.start), { n: this.start }));
    setText(this.after, fill(ngettext("%(n)s more box", "%(n)s more boxes", later), { n: later }));
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

  describe(row, box) {
    const { scene } = this;
    const [number, dot, name, fate] = row.firstElementChild.children;
    const label = scene.labels.get(box.label);
    setText(number, String(box.order));
    if (dot.dataset.label !== box.label) {
      dot.dataset.label = box.label;
      dot.replaceChildren(swatch(label?.colour ?? "#ffffff"));
    }
    setText(name, box.proposed_label || label?.name || box.label);
    setText(fate, this.fate(box));
    row.classList.toggle("is-uncertain", box.is_uncertain);
  }

  fate(box) {
    const { scene } = this;
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
    const last = keys.at(-1);
    if (last !== undefined && !this.rows.has(last)) this.showWindowOf(last);
    for (const key of keys) this.mark(key, true);
    this.keepOneStop();
    this.scrollSoon(last);
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

  showWindowOf(key) {
    const at = this.scene.answer.list().findIndex((box) => box.key === key);
    if (at === -1) return;
    this.start = at - (at % WINDOW);
    this.fill();
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

  sentence(box) {
    const { scene } = this;
    const name = box.proposed_label || scene.labels.get(box.label)?.name || box.label;
    return fill(gettext("Box %(number)s, %(name)s, %(fate)s"), { number: box.order, name, fate: this.fate(box) });
  }
}
