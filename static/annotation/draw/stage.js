// The window onto the photo: three canvases over each other, one view, drawn at most once a frame.
import { BoxLayer, HandLayer } from "./box-layer.js";
import { PictureLayer } from "./picture-layer.js";
import { clamped, closeTo, fitted, middleOf, moved, realPixels, resized, revealing, toPhoto, zoomedAt } from "./viewport.js";

export const STEP = 1.35;
const FEW = 12; // more boxes at once are drawn anew with all others

export class Stage {
  /** `scene` is what to draw (see BoxLayer.draw); `hand()` gives what is in hand at this moment. */
  constructor(element, scene, hand) {
    this.element = element;
    this.scene = scene;
    this.hand = hand;
    const canvas = (name) => element.querySelector(`[data-layer="${name}"]`);
    this.picture = new PictureLayer(canvas("picture"), () => this.redraw("picture"));
    this.boxes = new BoxLayer(canvas("boxes"));
    this.inHand = new HandLayer(canvas("hand"));
    this.canvases = [this.picture.canvas, this.boxes.canvas, this.inHand.canvas];
    this.photo = null;
    this.view = { scale: 1, x: 0, y: 0 };
    this.size = { width: element.clientWidth, height: element.clientHeight };
    this.stale = new Set();
    this.listeners = new Set();
    this.isWhole = true;
    this.frame = 0;
    new ResizeObserver(() => this.measure()).observe(element);
  }

  async show(photo) {
    this.photo = photo;
    this.measure();
    this.fit();
    return this.picture.show(photo);
  }

  clear() {
    this.photo = null;
    this.picture.clear();
    this.redraw("picture", "boxes", "hand");
  }

  measure() {
    const size = { width: this.element.clientWidth, height: this.element.clientHeight };
    const ratio = globalThis.devicePixelRatio || 1;
    const isSame = size.width === this.size.width && size.height === this.size.height && ratio === this.ratio;
    if (!size.width || !size.height) return;
    if (isSame) return;
    const before = this.size;
    this.size = size;
    this.ratio = ratio;
    for (const canvas of this.canvases) {
      canvas.width = Math.round(size.width * ratio);
      canvas.height = Math.round(size.height * ratio);
    }
    if (this.photo) {
      if (this.isWhole) this.fit();
      else this.look(resized(this.view, this.photo, before, size));
    }
    this.redraw("picture", "boxes", "hand");
    this.paint(); // a canvas that got a new size is blank until it is drawn
  }

  onView(listener) {
    this.listeners.add(listener);
  }

  look(view, isWhole = false) {
    if (!this.photo) return;
    this.view = view;
    this.isWhole = isWhole;
    this.redraw("picture", "boxes", "hand");
  }

  fit() {
    if (this.photo) this.look(fitted(this.photo, this.size), true);
  }

  realPixels() {
    this.look(realPixels(this.view, this.photo, this.size, this.ratio));
  }

  zoom(factor, point = middleOf(this.size)) {
    this.look(zoomedAt(this.view, factor, point, this.photo, this.size));
  }

  pan(dx, dy) {
    this.look(moved(this.view, dx, dy, this.photo, this.size));
  }

  reveal(box) {
    this.look(revealing(this.view, box, this.photo, this.size), false);
  }

  closeTo(box) {
    this.look(closeTo(box, this.photo, this.size));
  }

  keepInside() {
    this.look(clamped(this.view, this.photo, this.size));
  }

  /** CSS px of the window, of a pointer event. */
  pointOf(event) {
    const frame = this.element.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  toPhoto(point) {
    return toPhoto(this.view, point);
  }

  middle() {
    return this.toPhoto(middleOf(this.size));
  }

  redraw(...layers) {
    for (const layer of layers) this.stale.add(layer);
    if (layers.includes("boxes")) this.part = undefined;
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  /** Only these boxes look different now, as they are or as they were: the rest of the layer stays as it is. */
  redrawBoxes(boxes) {
    const isWholeAsked = this.stale.has("boxes") && this.part === undefined;
    const all = isWholeAsked ? [] : [...boxes, ...(this.part ? [this.part] : [])];
    this.redraw("boxes", "hand");
    if (all.length && all.length <= FEW) this.part = all.reduce(union);
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const stale = this.stale;
    this.stale = new Set();
    if (stale.has("picture")) this.picture.draw(this.view, this.size, this.ratio);
    if (stale.has("boxes") && this.scene.answer) this.boxes.draw(this.view, this.size, this.ratio, this.scene, this.part);
    if (stale.has("hand") && this.scene.answer) this.inHand.draw(this.view, this.size, this.ratio, this.scene, this.hand());
    this.part = undefined;
    if (stale.has("picture")) for (const listener of this.listeners) listener(this.view);
  }
}

function union(a, b) {
  return {
    x_min: Math.min(a.x_min, b.x_min), y_min: Math.min(a.y_min, b.y_min), x_max: Math.max(a.x_max, b.x_max), y_max: Math.max(a.y_max, b.y_max),
  };
}
