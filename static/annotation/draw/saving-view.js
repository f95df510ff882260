// Saved or not, in one word that is always in sight; and what a person can do when it is not.
import { fill, gettext, timeOf } from "./texts.js";

const LOOK = {
  clean: "none", saved: "saved", waiting: "saving", saving: "saving", offline: "kept", "signed-out": "kept", conflict: "ask",
  "lease-lost": "kept", refused: "ask", closed: "none",
};

export class SavingView {
  constructor(root) {
    this.place = root.querySelector("[data-save]");
    this.text = root.querySelector("[data-save-text]");
  }

  show(state, { isKeptHere, savedAt }) {
    const look = isKeptHere || LOOK[state] !== "kept" ? LOOK[state] : "ask";
    this.place.dataset.saveState = look;
    const text = this.sentence(state, isKeptHere);
    if (this.text.textContent !== text) this.text.textContent = text;
    this.place.title = savedAt ? fill(gettext("Last saved %(time)s"), { time: timeOf(savedAt) }) : "";
  }

  sentence(state, isKeptHere) {
    if (!isKeptHere && ["offline", "signed-out", "lease-lost"].includes(state)) return gettext("Not saved: keep this page open");
    switch (state) {
      case "saved": return gettext("Saved");
      case "waiting":
      case "saving": return gettext("Saving…");
      case "offline": return gettext("Offline, kept in this browser");
      case "signed-out": return gettext("Signed out, kept in this browser");
      case "lease-lost": return gettext("Kept in this browser");
      case "conflict": return gettext("Two versions");
      case "refused": return gettext("Not saved");
      default: return "";
    }
  }
}
