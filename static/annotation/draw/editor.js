// What a person does to the boxes, whatever they do it with. Pointers are in gestures.js, keys in keys.js.
import { between, cutTo, movedBy, resizedBy, widthOf, heightOf, contains } from "./boxes.js";
import { closeTo } from "./viewport.js";

export const HANDLE_PX = Object.freeze({ mouse: 9, pen: 12, touch: 20 });
const NEW_BOX_SHARE = 0.12; // of the window, when a box is put by key and nothing tells how large animals are

export class Editor {
  /** `on` = {select(), tool(), drew(key), said(event, detail)} */
  constructor(stage, scene, on) {
    this.stage = stage;
    this.scene = scene;
    this.on = on;
    this.selection = [];
    this.preview = null; // boxes in hand as they are at this moment, by key
    this.frame = null;
    this.pointedKey = null;
    this.cross = null;
    this.isSelecting = false;
    this.tool = "select";
    this.pointerType = "mouse";
    this.label = null;
    this.proposed = ""; // a name that the survey lacks, for new boxes as `label` is
    this.isLocked = false;
  }

  get answer() {
    return this.scene.answer;
  }

  start(label) {
    this.selection = [];
    this.scene.hidden = new Set();
    this.preview = this.frame = this.pointedKey = this.cross = null;
    this.label = label;
    this.proposed = "";
  }

  // --- What is in hand -----------------------------------------------------------------------------------
  hand() {
    const chosen = this.selection.map((key) => this.preview?.get(key) ?? this.answer.get(key)).filter(Boolean);
    return {
      boxes: chosen,
      hasHandles: !this.isLocked,
      handlePx: HANDLE_PX[this.pointerType] ?? HANDLE_PX.mouse,
      pointed: this.selection.includes(this.pointedKey) ? null : this.answer.get(this.pointedKey),
      frame: this.frame,
      isSelecting: this.isSelecting,
      cross: this.cross,
    };
  }

  select(keys, { isQuiet = false } = {}) {
    const next = keys.filter((key) => this.answer.get(key));
    const before = this.chosen();
    if (next.length === this.selection.length && next.every((key, index) => key === this.selection[index])) return;
    this.selection = next;
    this.scene.hidden = new Set(next);
    this.answer.endStep();
    this.stage.redrawBoxes([...before, ...this.chosen()]);
    this.on.select(isQuiet);
  }

  toggle(key) {
    this.select(this.selection.includes(key) ? this.selection.filter((other) => other !== key) : [...this.selection, key]);
  }

  selectAll() {
    this.select(this.answer.list().map((box) => box.key));
  }

  /**
   * After an edit, also one from elsewhere: only what still exists stays in hand. What is in hand lies on a layer alone.
   * `touched`: the edited boxes as they were and as they are; without, all is drawn anew.
   */
  refresh(keys = null, touched = []) {
    const left = this.selection.filter((key) => this.answer.get(key));
    if (left.length !== this.selection.length) this.select(left);
    if (!keys) this.stage.redraw("boxes", "hand");
    else if (keys.every((key) => this.scene.hidden.has(key))) this.stage.redraw("hand");
    else this.stage.redrawBoxes(touched);
  }

  chosen() {
    return this.selection.map((key) => this.answer.get(key)).filter(Boolean);
  }

  point(key) {
    if (key === this.pointedKey) return;
    this.pointedKey = key;
    this.stage.redraw("hand");
  }

  setTool(tool) {
    if (tool === this.tool) return;
    this.tool = tool;
    this.stage.element.dataset.tool = tool;
    if (tool !== "draw") this.cross = null;
    this.stage.redraw("hand");
    this.on.tool(tool);
  }

  // --- Edits ---------------------------------------------------------------------------------------------
  draw(first, last) {
    const box = cutTo(this.scene.photo, between(first, last));
    const key = this.answer.add({ ...box, label: this.label, proposed_label: this.proposed });
    this.select([key], { isQuiet: true });
    this.on.drew(key);
    return key;
  }

  /** A box in the middle of the window, as large as the last one drawn or the animals here usually are. */
  drawInTheMiddle() {
    const { photo } = this.scene;
    const { width, height } = this.usualSize();
    const middle = this.stage.middle();
    const whole = { x_min: 0, y_min: 0, x_max: Math.min(width, photo.width), y_max: Math.min(height, photo.height) };
    const box = movedBy(photo, whole, middle.x - whole.x_max / 2, middle.y - whole.y_max / 2);
    return this.draw({ x: box.x_min, y: box.y_min }, { x: box.x_max, y: box.y_max });
  }

  usualSize() {
    const boxes = this.answer.list();
    if (!boxes.length) {
      const side = (NEW_BOX_SHARE * Math.min(this.stage.size.width, this.stage.size.height)) / this.stage.view.scale;
      return { width: side, height: side };
    }
    const median = (of) => boxes.map(of).sort((a, b) => a - b)[boxes.length >> 1];
    return { width: median(widthOf), height: median(heightOf) };
  }

  nudge(dx, dy) {
    const { photo } = this.scene;
    const count = this.answer.change(this.selection, (box) => movedBy(photo, box, dx, dy), "nudge");
    if (count) this.keepInSight();
    return count;
  }

  stretch(dx, dy) {
    const { photo } = this.scene;
    const grow = (box) =>
      widthOf(box) + dx < 2 || heightOf(box) + dy < 2 ? {} : resizedBy(photo, box, "se", dx, dy);
    const count = this.answer.change(this.selection, grow, "stretch");
    if (count) this.keepInSight();
    return count;
  }

  move(key, dx, dy) {
    return this.answer.change([key], (box) => movedBy(this.scene.photo, box, dx, dy), "move");
  }

  moveChosen(dx, dy) {
    return this.answer.change(this.selection, (box) => movedBy(this.scene.photo, box, dx, dy), "move");
  }

  resize(key, handle, dx, dy) {
    return this.answer.change([key], (box) => resizedBy(this.scene.photo, box, handle, dx, dy), "resize");
  }

  relabel(code) {
    this.label = code;
    this.proposed = "";
    return this.answer.change(this.selection, () => ({ label: code, proposed_label: "" }), "relabel");
  }

  proposeLabel(name) {
    this.proposed = name;
    return this.answer.change(this.selection, () => ({ proposed_label: name }), "relabel");
  }

  setUncertain(isUncertain) {
    return this.answer.change(this.selection, () => ({ is_uncertain: isUncertain }), "uncertain");
  }

  setNote(note) {
    return this.answer.change(this.selection, () => ({ note }), "note");
  }

  duplicate() {
    const { photo } = this.scene;
    const keys = this.chosen().map((box) => {
      const shift = Math.max(4, Math.min(widthOf(box), heightOf(box)) / 3);
      const isAtEdge = box.x_max + shift > photo.width || box.y_max + shift > photo.height;
      const place = movedBy(photo, box, isAtEdge ? -shift : shift, isAtEdge ? -shift : shift);
      return this.answer.add({ ...box, ...place, proposal: null });
    });
    if (keys.length) this.select(keys);
    return keys.length;
  }

  remove() {
    const list = this.answer.list();
    const at = list.findIndex((box) => box.key === this.selection.at(-1));
    const rest = list.filter((box) => !this.selection.includes(box.key));
    const isSingle = this.selection.length === 1;
    const count = this.answer.remove(this.selection);
    // The one after it is next in hand: a row of wrong boxes is deleted by one key held down.
    const next = isSingle ? rest[Math.min(Math.max(at, 0), rest.length - 1)] : null;
    this.select(next ? [next.key] : []);
    return count;
  }

  /** A weak proposal becomes a box. */
  take(proposal) {
    const key = this.answer.add({ ...proposal.box, label: proposal.label, proposal: proposal.number });
    this.select([key]);
    return key;
  }

  undo() {
    const command = this.answer.undo();
    if (command) this.follow(command);
    return command;
  }

  redo() {
    const command = this.answer.redo();
    if (command) this.follow(command);
    return command;
  }

  /** Shows what a step back or forth did. */
  follow(command) {
    const keys = command.steps.map(([key]) => key).filter((key) => this.answer.get(key));
    if (keys.length === 1) {
      this.select(keys);
      this.keepInSight();
    } else {
      this.refresh();
    }
  }

  // --- Going from box to box ------------------------------------------------------------------------------
  step(direction) {
    const list = this.answer.list();
    if (!list.length) return null;
    const at = list.findIndex((box) => box.key === this.selection.at(-1));
    const next = at === -1 ? (direction > 0 ? 0 : list.length - 1) : (at + direction + list.length) % list.length;
    this.select([list[next].key]);
    this.keepInSight();
    return list[next];
  }

  keepInSight() {
    const box = this.answer.get(this.selection.at(-1));
    if (!box || !this.stage.photo) return;
    const { x_min, y_min, x_max, y_max } = this.stagePart();
    const isInside = contains({ x_min, y_min, x_max, y_max }, { x: box.x_min, y: box.y_min }) &&
      contains({ x_min, y_min, x_max, y_max }, { x: box.x_max, y: box.y_max });
    if (!isInside) this.stage.reveal(box);
  }

  stagePart() {
    const first = this.stage.toPhoto({ x: 0, y: 0 });
    const last = this.stage.toPhoto({ x: this.stage.size.width, y: this.stage.size.height });
    return { x_min: first.x, y_min: first.y, x_max: last.x, y_max: last.y };
  }

  zoomToChosen() {
    const box = this.answer.get(this.selection.at(-1));
    if (box) this.stage.look(closeTo(box, this.scene.photo, this.stage.size));
  }
}
