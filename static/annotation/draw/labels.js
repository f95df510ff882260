// The label of a box: by digit, by type-ahead, or a new one that a curator will look at.
import { element, labelName, swatch } from "./dom.js";
import { fill, gettext } from "./texts.js";

const DIGITS = 9;
const SHOWN_AT_MOST = 60;

/** Recent ones first, then in the survey's order; the same throughout one photo, so that digits can be learnt. */
export function orderedLabels(labels, recent) {
  const byCode = new Map(labels.map((label) => [label.code, label]));
  const first = recent.map((code) => byCode.get(code)).filter(Boolean);
  return [...first, ...labels.filter((label) => !recent.includes(label.code))];
}

export function plain(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().trim();
}

/** Labels for what was typed: those that begin with it, then those with a word that does, then those that contain it. */
export function matching(labels, typed) {
  const wanted = plain(typed);
  if (!wanted) return labels;
  const rank = (label) => {
    const texts = [label.name, label.vernacular, label.code].filter(Boolean).map(plain);
    if (texts.some((text) => text.startsWith(wanted))) return 0;
    if (texts.some((text) => text.split(/[\s_-]+/).some((word) => word.startsWith(wanted)))) return 1;
    return texts.some((text) => text.includes(wanted)) ? 2 : 3;
  };
  return labels
    .map((label, index) => ({ label, index, rank: rank(label) }))
    .filter((found) => found.rank < 3)
    .sort((a, b) => a.rank - b.rank || a.index - b.index)
    .map((found) => found.label);
}

export class LabelPicker {
  /** `on` = {choose(code), propose(name), leave()} */
  constructor(root, on) {
    this.input = root.querySelector("#label-input");
    this.options = root.querySelector("#label-options");
    this.quick = root.querySelector("[data-quick-labels]");
    this.title = root.querySelector("[data-label-title]");
    this.on = on;
    this.labels = [];
    this.shownName = "";
    this.active = -1;
    this.listen();
  }

  fill(labels, recent) {
    this.labels = orderedLabels(labels, recent);
    this.quick.replaceChildren(
      ...this.labels.slice(0, DIGITS).map((label, index) =>
        element("li", {}, element(
          "button", { type: "button", class: "quick-label", data: { code: label.code }, "aria-pressed": "false" },
          element("kbd", { text: String(index + 1) }), swatch(label.colour), labelName(label),
        )),
      ),
    );
    this.input.value = "";
    this.close();
  }

  byDigit(digit) {
    return this.labels[digit - 1] ?? null;
  }

  /** `title` says whose label it is; `code` null where several boxes differ. */
  show(title, code, proposed = "") {
    this.title.textContent = title;
    const label = this.labels.find((other) => other.code === code);
    this.shownName = proposed || label?.name || "";
    if (document.activeElement !== this.input) this.input.value = this.shownName;
    for (const button of this.quick.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(!proposed && button.dataset.code === code));
    }
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  listen() {
    this.quick.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.on.choose(button.dataset.code);
    });
    this.input.addEventListener("focus", () => {
      this.input.select();
      this.open("");
    });
    this.input.addEventListener("input", () => this.open(this.input.value));
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => {
      this.close();
      this.input.value = this.shownName;
    });
    // Before the field loses its focus to the click.
    this.options.addEventListener("pointerdown", (event) => {
      const option = event.target.closest("[role=option]");
      event.preventDefault();
      if (option) this.take(option);
    });
  }

  open(typed) {
    const found = matching(this.labels, typed).slice(0, SHOWN_AT_MOST);
    const items = found.map((label, index) =>
      element(
        "li", { role: "option", id: `label-option-${index}`, "aria-selected": "false", data: { code: label.code } },
        swatch(label.colour), labelName(label),
        label.vernacular && label.vernacular !== label.name ? element("small", { class: "muted", text: label.vernacular }) : null,
        element("small", { class: "label-options__code", text: label.code === label.name ? "" : label.code }),
      ),
    );
    const name = typed.trim().replace(/\s+/g, " ");
    const isKnown = this.labels.some((label) => plain(label.name) === plain(name) || plain(label.code) === plain(name));
    if (name.length > 1 && !isKnown) {
      items.push(element("li", {
        role: "option", id: "label-option-new", "aria-selected": "false", class: "label-options__new", data: { propose: name },
        text: fill(gettext("Propose “%(name)s” as a new label"), { name }),
      }));
    }
    this.options.replaceChildren(...items);
    this.options.hidden = items.length === 0;
    this.input.setAttribute("aria-expanded", String(items.length > 0));
    this.activate(typed && found.length ? 0 : -1);
  }

  close() {
    this.options.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.active = -1;
  }

  activate(index) {
    const items = [...this.options.children];
    items[this.active]?.setAttribute("aria-selected", "false");
    this.active = items.length ? Math.min(Math.max(index, -1), items.length - 1) : -1;
    const item = items[this.active];
    if (item) {
      item.setAttribute("aria-selected", "true");
      item.scrollIntoView({ block: "nearest" });
      this.input.setAttribute("aria-activedescendant", item.id);
    } else {
      this.input.removeAttribute("aria-activedescendant");
    }
  }

  key(event) {
    const isOpen = !this.options.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!isOpen) this.open(this.input.value);
      else this.activate(this.active + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      const option = this.options.children[this.active] ?? (this.options.children.length === 1 ? this.options.firstElementChild : null);
      if (isOpen && option) this.take(option);
    } else if (event.key === "Escape") {
      this.input.value = this.shownName;
      this.close();
      this.on.leave();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  take(option) {
    const { code, propose } = option.dataset;
    this.close();
    if (code) this.on.choose(code);
    else this.on.propose(propose);
    this.on.leave();
  }
}
