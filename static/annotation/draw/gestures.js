// Mouse, pen and fingers through pointer events: which hand movement means which edit.
import { between, boxAt, contains, handleAt, movedBy, overlaps, resizedBy } from "./boxes.js";

const SLOP_PX = Object.freeze({ mouse: 4, pen: 6, touch: 9 }); // less is a click
const REACH_PX = Object.freeze({ mouse: 8, pen: 12, touch: 24 });
const EDGE_PX = Object.freeze({ mouse: 5, pen: 8, touch: 14 });
const LEAST_DRAWN_PX = 5;
const CURSORS = { nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize", n: "ns-resize", s: "ns-resize", e: "ew-resize", w: "ew-resize" };
const ERASER = 5;

export class Gestures {
  constructor(stage, editor, { onUse = () => {} } = {}) {
    this.stage = stage;
    this.editor = editor;
    this.element = stage.element;
    this.onUse = onUse;
    this.pointers = new Map();
    this.drag = null;
    this.isSpaceDown = false;
    this.listen();
  }

  listen() {
    const { element } = this;
    const on = (name, listener, options) => element.addEventListener(name, listener, options);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.cancel(event));
    on("lostpointercapture", (event) => this.pointers.has(event.pointerId) && this.cancel(event));
    on("pointerleave", () => this.leave());
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("contextmenu", (event) => event.preventDefault());
    on("dblclick", (event) => this.doubleClick(event));
  }

  holdSpace(isDown) {
    this.isSpaceDown = isDown;
    this.element.classList.toggle("is-panning", isDown || this.drag?.kind === "pan");
  }

  // --- Down: what does this pointer mean? ------------------------------------------------------------------
  down(event) {
    if (!this.stage.photo) return;
    this.element.focus({ preventScroll: true });
    event.preventDefault(); // no text selection, no scrolling by the middle button
    this.onUse();
    const at = this.stage.pointOf(event);
    this.pointers.set(event.pointerId, { at, type: event.pointerType });
    this.editor.pointerType = event.pointerType;
    try {
      this.element.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that is gone already, or one that a test made up.
    }
    if (this.pointers.size === 2) {
      this.drop();
      this.drag = { kind: "pinch" };
      return;
    }
    if (this.pointers.size > 2) return;
    this.drag = this.meant(event, at);
    this.stage.redraw("hand");
  }

  meant(event, at) {
    const { editor } = this;
    const start = { at, photo: this.stage.toPhoto(at), type: event.pointerType, travel: 0 };
    if (event.button === 1 || event.button === 2 || (event.button === 0 && this.isSpaceDown)) return this.panning(start);
    if (event.button === ERASER) return { ...start, kind: "erase" };
    if (event.button !== 0) return null;
    if (editor.isLocked) return this.panning(start);
    const handle = this.handleUnder(start);
    if (handle) return { ...start, kind: "resize", ...handle };
    if (editor.tool === "draw") return { ...start, kind: "draw" };
    const box = this.boxUnder(start);
    if (event.shiftKey) return { ...start, kind: box ? "toggle" : "frame", key: box?.key };
    const isChosen = box && editor.selection.includes(box.key);
    if (box && (isChosen || event.pointerType !== "touch")) {
      if (!isChosen) editor.select([box.key]);
      return { ...start, kind: "move", key: box.key };
    }
    return { ...this.panning(start), key: box?.key, isTap: true };
  }

  panning(start) {
    this.element.classList.add("is-panning");
    return { ...start, kind: "pan" };
  }

  reach(table, type) {
    return (table[type] ?? table.mouse) / this.stage.view.scale;
  }

  handleUnder({ photo, type }) {
    if (this.editor.selection.length !== 1 || this.editor.scene.isHidden) return null;
    const box = this.editor.answer.get(this.editor.selection[0]);
    const isDrawing = this.editor.tool === "draw";
    const handle = box && handleAt(box, photo, this.reach(REACH_PX, type) * (isDrawing ? 0.75 : 1));
    return handle ? { handle, key: box.key, box } : null;
  }

  boxUnder({ photo, type }) {
    if (this.editor.scene.isHidden) return null;
    const { answer, selection } = this.editor;
    const slack = this.reach(EDGE_PX, type);
    const near = answer.index.at(photo, slack).map((key) => answer.get(key));
    const best = boxAt(near, photo, slack);
    // The one in hand stays in hand where boxes lie over each other, unless another's line is pointed at.
    const chosen = near.find((box) => selection.includes(box.key) && contains(box, photo));
    return chosen && best && contains(best, photo) && best !== chosen && !isOnLine(best, photo, slack) ? chosen : best;
  }

  weakUnder(photo) {
    const around = this.editor.scene.weak.filter(({ box }) => contains(box, photo));
    return around.sort((a, b) => area(a.box) - area(b.box))[0] ?? null;
  }

  // --- Move -------------------------------------------------------------------------------------------------
  move(event) {
    const at = this.stage.pointOf(event);
    const known = this.pointers.get(event.pointerId);
    if (!known) {
      this.hover(event, at);
      return;
    }
    if (this.drag?.kind === "pinch") {
      this.pinch(event.pointerId, known.at, at);
    } else if (this.drag?.at) {
      this.drag.travel = Math.max(this.drag.travel, Math.hypot(at.x - this.drag.at.x, at.y - this.drag.at.y));
      this.dragTo(at, known.at);
    }
    known.at = at;
  }

  dragTo(at, before) {
    const { drag, editor, stage } = this;
    if (drag.travel < (SLOP_PX[drag.type] ?? SLOP_PX.mouse)) return;
    const photo = stage.toPhoto(at);
    const [dx, dy] = [photo.x - drag.photo.x, photo.y - drag.photo.y];
    const size = editor.scene.photo;
    if (drag.kind === "pan") {
      if (!drag.isMoving) stage.pan(at.x - drag.at.x, at.y - drag.at.y);
      else stage.pan(at.x - before.x, at.y - before.y);
      drag.isMoving = true;
    } else if (drag.kind === "draw" || drag.kind === "frame") {
      editor.frame = between(drag.photo, photo);
      editor.isSelecting = drag.kind === "frame";
      editor.cross = drag.kind === "draw" ? at : null;
    } else if (drag.kind === "move") {
      editor.preview = new Map(editor.chosen().map((box) => [box.key, { ...box, ...movedBy(size, box, dx, dy) }]));
    } else if (drag.kind === "resize") {
      editor.preview = new Map([[drag.key, { ...drag.box, ...resizedBy(size, drag.box, drag.handle, dx, dy) }]]);
    }
    stage.redraw("hand");
  }

  pinch(id, before, now) {
    const other = [...this.pointers].find(([pointerId]) => pointerId !== id)?.[1].at;
    if (!other) return;
    const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
    this.stage.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    if (Number.isFinite(factor) && factor > 0) {
      this.stage.zoom(factor, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    }
  }

  hover(event, at) {
    if (!this.stage.photo || event.pointerType === "touch") return;
    const { editor } = this;
    editor.pointerType = event.pointerType;
    const start = { photo: this.stage.toPhoto(at), type: event.pointerType };
    const handle = editor.isLocked ? null : this.handleUnder(start);
    const box = this.boxUnder(start);
    editor.point(box?.key ?? null);
    const isDrawing = editor.tool === "draw" && !editor.isLocked;
    const isOver = box || this.weakUnder(start.photo);
    this.element.style.cursor = handle ? CURSORS[handle.handle] : isDrawing || this.isSpaceDown ? "" : isOver ? "pointer" : "";
    editor.cross = isDrawing && !handle ? at : null;
    if (isDrawing) this.stage.redraw("hand");
  }

  leave() {
    this.editor.point(null);
    if (this.editor.cross) {
      this.editor.cross = null;
      this.stage.redraw("hand");
    }
  }

  // --- Up: the edit is made ------------------------------------------------------------------------------
  up(event) {
    const { drag } = this;
    const at = this.stage.pointOf(event);
    this.pointers.delete(event.pointerId);
    if (!drag?.at) {
      if (this.pointers.size === 0) this.drop();
      else this.drag = { kind: "spent" }; // after a pinch the finger that stays does not begin to draw
      return;
    }
    if (this.pointers.size === 0) this.drag = null;
    this.element.classList.toggle("is-panning", this.isSpaceDown);
    const isClick = drag.travel < (SLOP_PX[drag.type] ?? SLOP_PX.mouse);
    if (isClick) this.click(drag);
    else this.finish(drag, this.stage.toPhoto(at));
    this.editor.preview = this.editor.frame = null;
    this.editor.isSelecting = false;
    this.stage.redraw("hand");
  }

  click(drag) {
    const { editor } = this;
    if (drag.kind === "erase") {
      const box = this.boxUnder(drag);
      if (box) editor.select([box.key]);
      if (box) editor.remove();
    } else if (drag.kind === "toggle") {
      editor.toggle(drag.key);
    } else if (drag.kind === "draw" || drag.isTap || drag.kind === "frame") {
      const box = this.boxUnder(drag);
      const weak = box ? null : this.weakUnder(drag.photo);
      if (weak && !editor.isLocked) editor.take(weak);
      else editor.select(box ? [box.key] : []);
    }
  }

  finish(drag, photo) {
    const { editor, stage } = this;
    const [dx, dy] = [photo.x - drag.photo.x, photo.y - drag.photo.y];
    if (drag.kind === "draw") {
      const least = LEAST_DRAWN_PX / stage.view.scale;
      if (Math.abs(dx) >= least && Math.abs(dy) >= least) editor.draw(drag.photo, photo);
    } else if (drag.kind === "frame") {
      const frame = between(drag.photo, photo);
      const inside = editor.answer.near(frame).filter((box) => overlaps(frame, box) && contains(frame, { x: (box.x_min + box.x_max) / 2, y: (box.y_min + box.y_max) / 2 }));
      editor.select([...new Set([...editor.selection, ...inside.map((box) => box.key)])]);
    } else if (drag.kind === "move") {
      editor.moveChosen(dx, dy);
    } else if (drag.kind === "resize") {
      editor.resize(drag.key, drag.handle, dx, dy);
    }
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.drop();
  }

  /** Whatever was going on has not happened. */
  drop() {
    const wasBusy = Boolean(this.drag && this.drag.kind !== "pan");
    this.drag = null;
    this.element.classList.toggle("is-panning", this.isSpaceDown);
    Object.assign(this.editor, { preview: null, frame: null, cross: null, isSelecting: false });
    this.stage.redraw("hand");
    return wasBusy;
  }

  wheel(event) {
    event.preventDefault();
    if (!this.stage.photo) return;
    this.onUse();
    const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? this.stage.size.height : 1;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.stage.pan(-event.deltaX * unit, 0);
      return;
    }
    const pixels = Math.max(-300, Math.min(300, event.deltaY * unit));
    this.stage.zoom(Math.exp(-pixels / (event.ctrlKey ? 120 : 340)), this.stage.pointOf(event));
  }

  doubleClick(event) {
    if (this.editor.tool === "draw" || !this.stage.photo) return;
    const start = { photo: this.stage.toPhoto(this.stage.pointOf(event)), type: "mouse" };
    if (this.boxUnder(start)) this.editor.zoomToChosen();
  }
}

function area(box) {
  return (box.x_max - box.x_min) * (box.y_max - box.y_min);
}

function isOnLine(box, point, slack) {
  const inner = { x_min: box.x_min + slack, y_min: box.y_min + slack, x_max: box.x_max - slack, y_max: box.y_max - slack };
  return !contains(inner, point);
}
