// What each key, button and menu entry does, by name.
import { STEP } from "./stage.js";
import { gettext, ngettext, fill, percent } from "./texts.js";

const LARGE = 10;
const PAN_PX = 80;
const ADJUST_KEY = "podura-draw-adjust";

/** @returns {Record<string, Function>} */
export function commandsOf(page) {
  const { editor, stage, scene } = page;
  const edits = (act) => () => {
    if (page.task && !editor.isLocked) act();
  };
  return {
    "tool-select": () => editor.setTool("select"),
    "tool-draw": () => {
      if (editor.isLocked) return;
      editor.setTool("draw");
      page.say(gettext("Draw: drag over an animal, or press N."));
    },
    new: edits(() => {
      editor.drawInTheMiddle();
      sayChosen(page, gettext("New box."));
      stage.element.focus();
    }),
    duplicate: edits(() => editor.duplicate() && sayChosen(page, gettext("Duplicated."))),
    delete: edits(() => {
      const count = editor.remove();
      if (count) page.say(fill(ngettext("%(n)s box deleted.", "%(n)s boxes deleted.", count), { n: count }));
    }),
    undo: edits(() => page.say(editor.undo() ? gettext("Undone.") : gettext("Nothing to undo."))),
    redo: edits(() => page.say(editor.redo() ? gettext("Done again.") : gettext("Nothing to redo."))),
    "select-all": () => editor.selectAll(),
    uncertain: edits(() => {
      const boxes = editor.chosen();
      const isUncertain = !boxes.every((box) => box.is_uncertain);
      if (editor.setUncertain(isUncertain)) page.say(isUncertain ? gettext("Marked as not certain.") : gettext("Marked as certain."));
    }),
    note: edits(() => {
      if (!editor.selection.length) return;
      openPanel(page);
      page.find("#box-note").focus();
    }),
    label: edits(() => {
      openPanel(page);
      page.panel.picker.focus();
    }),
    empty: edits(() => {
      const isEmpty = !scene.answer.isEmpty;
      const count = scene.answer.size;
      scene.answer.confirmEmpty(isEmpty);
      if (!isEmpty) page.say(gettext("No longer marked as without animals."));
      else if (count) page.say(fill(ngettext("No animal: %(n)s box deleted. Undo brings it back.", "No animal: %(n)s boxes deleted. Undo brings them back.", count), { n: count }));
      else page.say(gettext("No animal on this photo."));
    }),
    submit: () => page.flow.submit(),
    skip: () => page.task && page.find("#skip-dialog").showModal(),
    "next-box": () => editor.step(1),
    "previous-box": () => editor.step(-1),
    "zoom-in": () => page.task && stage.zoom(STEP),
    "zoom-out": () => page.task && stage.zoom(1 / STEP),
    "zoom-box": () => editor.zoomToChosen(),
    fit: () => stage.fit(),
    real: () => page.task && stage.realPixels(),
    hide: () => {
      scene.isHidden = !scene.isHidden;
      page.showPressed("hide", scene.isHidden);
      page.say(scene.isHidden ? gettext("Boxes are hidden.") : gettext("Boxes are shown."));
      stage.redraw("boxes", "hand");
    },
    adjust: () => toggleSheet(page, "adjust", "[data-adjust]", "#brightness"),
    weak: () => toggleSheet(page, "weak", "[data-weak-panel]", "#weak-threshold"),
    why: () => {
      const details = page.find("[data-why]");
      if (details.hidden) return;
      openPanel(page);
      details.open = !details.open;
      if (!details.open) return;
      details.querySelector("summary").focus({ preventScroll: true });
      const panel = page.find("[data-panel]"); // and nothing around it, as scrollIntoView would
      panel.scrollTop += details.getBoundingClientRect().top - panel.getBoundingClientRect().top;
    },
    help: () => page.find("#keys-dialog").showModal(),
    panel: () => togglePanel(page),
    escape: () => escape(page),
    arrow: (dx, dy, how) => arrow(page, dx, dy, how),
  };
}

function arrow(page, dx, dy, { resize, large }) {
  const { editor, stage } = page;
  if (!page.task) return;
  if (!editor.selection.length || editor.isLocked) {
    stage.pan(-dx * PAN_PX * (large ? 3 : 1), -dy * PAN_PX * (large ? 3 : 1));
    return;
  }
  // A step is a pixel of the screen, and never less than one of the photo: small where one looks closely.
  const step = Math.max(1, 1 / stage.view.scale) * (large ? LARGE : 1);
  if (resize) editor.stretch(dx * step, dy * step);
  else editor.nudge(dx * step, dy * step);
  const box = editor.chosen()[0];
  if (box) {
    page.say(fill(gettext("%(x)s, %(y)s; %(width)s × %(height)s px"), {
      x: Math.round(box.x_min), y: Math.round(box.y_min), width: Math.round(box.x_max - box.x_min), height: Math.round(box.y_max - box.y_min),
    }));
  }
}

/** From the innermost outwards: the drag, the sheet, the box, the tool. */
function escape(page) {
  const { editor, stage } = page;
  if (page.gestures.drop()) return;
  if (document.activeElement?.matches("#box-note, #weak-threshold, #brightness, #contrast")) stage.element.focus();
  for (const [name, selector] of [["adjust", "[data-adjust]"], ["weak", "[data-weak-panel]"]]) {
    if (page.find(selector).hidden) continue;
    toggleSheet(page, name, selector);
    return;
  }
  if (editor.selection.length) editor.select([]);
  else editor.setTool("select");
  stage.element.focus();
}

function sayChosen(page, text) {
  const [box] = page.editor.chosen();
  page.say(box ? `${text} ${page.panel.list.sentence(box)}` : text);
}

function toggleSheet(page, command, selector, focus) {
  const sheet = page.find(selector);
  for (const other of page.root.querySelectorAll("[data-adjust], [data-weak-panel]")) if (other !== sheet) other.hidden = true;
  sheet.hidden = !sheet.hidden;
  for (const name of ["adjust", "weak"]) {
    const isOpen = !page.find(name === "adjust" ? "[data-adjust]" : "[data-weak-panel]").hidden;
    for (const button of page.root.querySelectorAll(`.draw-tools [data-command="${name}"]`)) button.setAttribute("aria-expanded", String(isOpen));
  }
  if (!sheet.hidden && focus) page.find(focus).focus();
  else page.find(`.draw-tools [data-command="${command}"]`).focus();
}

function openPanel(page) {
  if (!page.root.classList.contains("has-panel")) togglePanel(page);
}

function togglePanel(page) {
  const isOpen = page.root.classList.toggle("has-panel");
  page.find('.draw-tools [data-command="panel"]').setAttribute("aria-expanded", String(isOpen));
}

/** Brightness and contrast of the picture only; kept for the next photos, as a lamp would be. */
export class Adjust {
  constructor(page) {
    this.page = page;
    this.brightness = page.find("#brightness");
    this.contrast = page.find("#contrast");
    this.recall();
    for (const input of [this.brightness, this.contrast]) input.addEventListener("input", () => this.apply());
    page.find("[data-adjust-reset]").addEventListener("click", () => {
      this.brightness.value = this.contrast.value = "100";
      this.apply();
    });
  }

  recall() {
    try {
      const [brightness, contrast] = JSON.parse(sessionStorage.getItem(ADJUST_KEY) ?? "[100,100]");
      this.brightness.value = String(brightness);
      this.contrast.value = String(contrast);
    } catch {
      // A browser that keeps nothing begins anew.
    }
    this.apply();
  }

  apply() {
    const [brightness, contrast] = [Number(this.brightness.value), Number(this.contrast.value)];
    const isChanged = brightness !== 100 || contrast !== 100;
    this.page.stage.picture.canvas.style.filter = isChanged ? `brightness(${brightness / 100}) contrast(${contrast / 100})` : "";
    this.page.find('.draw-tools [data-command="adjust"]').classList.toggle("is-on", isChanged);
    for (const input of [this.brightness, this.contrast]) input.setAttribute("aria-valuetext", percent(Number(input.value) / 100));
    try {
      sessionStorage.setItem(ADJUST_KEY, JSON.stringify([brightness, contrast]));
    } catch {
      // Then it lasts as long as the page.
    }
  }
}
