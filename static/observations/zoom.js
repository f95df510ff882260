// Zoom and pan by wheel, pinch, drag, buttons and keys.
import { WHOLE, centredOn, clamped, moved, photoPxPerCssPx, photoToStage, zoomedAt } from "./zoom-geometry.js";
import { TileLayer } from "./zoom-tiles.js";

const STEP = 1.4;
const REST_MS = 90;
const DRAG_PX = 5; // less is a click
const ARROWS = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };

export class Zoom {
  /** `onScale(photoPxPerScreenPx)` is called when sizes on the screen change. */
  constructor(plate, onScale) {
    this.plate = plate;
    this.view = plate.querySelector("[data-view]");
    this.stage = plate.querySelector("[data-stage]");
    this.photo = { width: Number(plate.dataset.width), height: Number(plate.dataset.height) };
    this.onScale = onScale;
    this.state = WHOLE;
    this.pointers = new Map();
    this.dragged = false;
    const tiles = document.getElementById("plate-tiles"); // only large photos have them
    if (tiles) this.tiles = new TileLayer(plate.querySelector("img"), this.photo, JSON.parse(tiles.textContent));
    this.listen();
  }

  size() {
    return { width: this.view.clientWidth, height: this.view.clientHeight };
  }

  listen() {
    this.view.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.view.addEventListener("keydown", (event) => this.key(event));
    this.view.addEventListener("dblclick", (event) => this.by(2, event));
    this.view.addEventListener("pointerdown", (event) => this.down(event));
    this.view.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.view.addEventListener(end, (event) => this.up(event));
    }
    // The click that ends a drag chooses nothing.
    this.view.addEventListener("click", (event) => {
      if (!this.dragged) return;
      event.preventDefault();
      event.stopPropagation();
    }, true);
    this.plate.addEventListener("click", (event) => {
      const button = event.target.closest("[data-zoom]");
      if (!button) return;
      if (button.dataset.zoom === "fit") this.show(WHOLE);
      else this.by(button.dataset.zoom === "in" ? STEP : 1 / STEP);
    });
    new ResizeObserver(() => this.show(this.state)).observe(this.view);
  }

  at(event) {
    const frame = this.view.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  by(factor, event) {
    const size = this.size();
    const point = event ? this.at(event) : { x: size.width / 2, y: size.height / 2 };
    this.show(zoomedAt(this.state, factor, point.x, point.y, size));
  }

  wheel(event) {
    // At the whole picture a turn downwards scrolls the page, as anywhere else.
    if (this.state.scale === 1 && event.deltaY > 0) return;
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 18 : event.deltaY;
    this.by(Math.exp(-Math.max(-240, Math.min(240, pixels)) / 320), event);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") this.by(STEP);
    else if (event.key === "-") this.by(1 / STEP);
    else if (event.key === "0") this.show(WHOLE);
    else if (ARROWS[event.key] && this.state.scale > 1) this.show(moved(this.state, ...ARROWS[event.key], this.size()));
    else return;
    event.preventDefault();
  }

  down(event) {
    if (event.button !== 0) return;
    this.pointers.set(event.pointerId, this.at(event));
    this.dragged = false;
    this.travel = 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.at(event);
    if (this.pointers.size === 2) {
      this.pinch(event.pointerId, before, now);
    } else if (this.state.scale > 1) {
      this.travel += Math.hypot(now.x - before.x, now.y - before.y);
      if (this.travel > DRAG_PX) {
        if (!this.dragged) this.view.setPointerCapture(event.pointerId);
        this.dragged = true;
        this.view.classList.add("is-moving");
        this.show(moved(this.state, now.x - before.x, now.y - before.y, this.size()));
      }
    }
    this.pointers.set(event.pointerId, now);
  }

  pinch(id, before, now) {
    const other = [...this.pointers].find(([pointerId]) => pointerId !== id)[1];
    const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
    this.dragged = true;
    if (Number.isFinite(factor)) this.show(zoomedAt(this.state, factor, middle.x, middle.y, this.size()));
    this.show(moved(this.state, (now.x - before.x) / 2, (now.y - before.y) / 2, this.size()));
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size === 0) this.view.classList.remove("is-moving");
  }

  /** Bring a point of the photo into sight, when only a part of the photo is shown. */
  reveal(px, py) {
    if (this.state.scale === 1) return;
    const size = this.size();
    const { x, y } = photoToStage(px, py, this.photo, size);
    const shown = { x: x * this.state.scale + this.state.x, y: y * this.state.scale + this.state.y };
    const margin = 40;
    const isInside = shown.x > margin && shown.y > margin && shown.x < size.width - margin && shown.y < size.height - margin;
    if (!isInside) this.show(centredOn(this.state, x, y, size));
  }

  show(state) {
    const size = this.size();
    if (!size.width || !size.height) return;
    this.state = clamped(state, size);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { scale, x, y } = this.state;
      this.stage.style.transform = scale === 1 ? "" : `translate(${x}px, ${y}px) scale(${scale})`;
      this.view.classList.toggle("is-zoomed", scale > 1);
      this.tiles?.update(this.state, this.size());
      this.rescale();
    });
  }

  /** Sizes follow once the hand rests: a thousand boxes laid out anew in every frame would stutter. */
  rescale() {
    const unit = photoPxPerCssPx(this.photo, this.size()) / this.state.scale;
    if (unit === this.unit) return;
    clearTimeout(this.resting);
    const apply = () => {
      this.unit = unit;
      this.onScale(unit);
    };
    if (this.unit === undefined) apply();
    else this.resting = setTimeout(apply, REST_MS);
  }
}
