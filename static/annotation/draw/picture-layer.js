// The photo on its canvas: the small rendition at once, the display rendition next, tiles where they are sharper.
import { levelFor, parentOf, tileBox, tileKey, tileUrl, tilesIn } from "./tile-math.js";
import { shownPart } from "./viewport.js";

const AT_ONCE = 6;
const KEPT_TILES = 160; // about 160 MB of pixels at most
const SHARP_FROM = 4; // device px per photo px; from here on pixels are shown as squares
const LEAST_HALF_PX = 320;

export class PictureLayer {
  /** `onArrival()` is called when something new can be drawn. */
  constructor(canvas, onArrival) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.onArrival = onArrival;
    this.ground = getComputedStyle(canvas).getPropertyValue("--stage").trim() || "#0b1011";
    this.clear();
  }

  clear() {
    this.photo = null;
    for (const { bitmap } of this.tiles?.values() ?? []) bitmap?.close();
    for (const { image } of this.loading?.values() ?? []) image.src = "";
    this.tiles = new Map(); // key -> {bitmap} or {failed}; the order is that of last use
    this.loading = new Map();
    this.wanted = [];
    this.renditions = []; // bitmaps of the whole photo, the smallest first
    this.generation = (this.generation ?? 0) + 1;
  }

  /** Begins to load. Resolves when the first whole picture is there, rejects when none can be had. */
  async show(photo) {
    this.clear();
    this.photo = photo;
    const { generation } = this;
    const thumbnail = this.whole(photo.thumbnail, generation).catch(() => null);
    const display = this.whole(photo.display, generation).then((bitmap) => this.halve(bitmap, generation));
    await Promise.any([thumbnail.then((bitmap) => bitmap ?? Promise.reject(new Error("no thumbnail"))), display]);
    return display;
  }

  async whole(url, generation) {
    const bitmap = await bitmapOf(url);
    if (generation !== this.generation) {
      bitmap.close();
      return null;
    }
    this.renditions.push(bitmap);
    this.renditions.sort((a, b) => a.width - b.width);
    this.onArrival();
    return bitmap;
  }

  /** Halves of the display rendition: shrinking six megapixels anew in every frame would cost the frames. */
  async halve(bitmap, generation) {
    let larger = bitmap;
    while (larger && larger.width / 2 > LEAST_HALF_PX) {
      const half = await createImageBitmap(larger, {
        resizeWidth: Math.round(larger.width / 2), resizeHeight: Math.max(1, Math.round(larger.height / 2)), resizeQuality: "high",
      });
      if (generation !== this.generation) {
        half.close();
        return;
      }
      this.renditions.push(half);
      this.renditions.sort((a, b) => a.width - b.width);
      larger = half;
    }
    this.onArrival();
  }

  draw(view, size, ratio) {
    const { context, photo } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.ground;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!photo) return;
    const scale = view.scale * ratio;
    context.imageSmoothingEnabled = scale < SHARP_FROM;
    context.imageSmoothingQuality = "low"; // sources are at most twice too large, where low is as good and much faster
    const place = (box) => deviceRect(box, view, ratio);
    const plan = this.plan(view, size, scale);
    if (!plan.isComplete) this.drawWhole(place, scale);
    for (const tile of plan.drawn) this.drawTile(tile, place);
  }

  /** What to draw, coarse before fine, and what to ask for. */
  plan(view, size, scale) {
    const { photo } = this;
    const { tiles } = photo;
    const sharpest = this.renditions.at(-1)?.width ?? 0;
    if (!tiles || photo.width * scale * 0.85 <= sharpest) {
      this.ask([]);
      return { isComplete: false, drawn: [] };
    }
    const level = levelFor(tiles, photo, scale);
    const needed = tilesIn(tiles, level, photo, shownPart(view, size));
    const drawn = new Map();
    let isComplete = true;
    for (const tile of needed) {
      if (this.tiles.get(tileKey(tile))?.bitmap) {
        drawn.set(tileKey(tile), tile);
        continue;
      }
      isComplete = false;
      for (let parent = parentOf(tiles, tile); parent; parent = parentOf(tiles, parent)) {
        if (!this.tiles.get(tileKey(parent))?.bitmap) continue;
        drawn.set(tileKey(parent), parent);
        break;
      }
    }
    this.ask(needed);
    return { isComplete, drawn: [...drawn.values()].sort((a, b) => a.level - b.level) };
  }

  drawWhole(place, scale) {
    const { context, photo } = this;
    const wanted = photo.width * scale * 0.85;
    const source = this.renditions.find((bitmap) => bitmap.width >= wanted) ?? this.renditions.at(-1);
    if (!source) return;
    const { x, y, width, height } = place({ x_min: 0, y_min: 0, x_max: photo.width, y_max: photo.height });
    // Only the part that is in sight: drawing far beyond the canvas costs as if it were seen.
    const left = Math.max(0, -x);
    const top = Math.max(0, -y);
    const right = Math.min(width, this.canvas.width - x);
    const bottom = Math.min(height, this.canvas.height - y);
    if (right <= left || bottom <= top) return;
    const [sx, sy] = [source.width / width, source.height / height];
    context.drawImage(
      source, left * sx, top * sy, (right - left) * sx, (bottom - top) * sy, x + left, y + top, right - left, bottom - top,
    );
  }

  drawTile(tile, place) {
    const key = tileKey(tile);
    const entry = this.tiles.get(key);
    this.tiles.delete(key); // to the end: used last
    this.tiles.set(key, entry);
    const { x, y, width, height } = place(tileBox(this.photo.tiles, this.photo, tile));
    this.context.drawImage(entry.bitmap, x, y, width, height);
  }

  ask(needed) {
    const keys = new Set(needed.map(tileKey));
    for (const [key, request] of this.loading) {
      if (keys.has(key)) continue;
      request.image.src = ""; // moved out of sight before it came
      this.loading.delete(key);
    }
    this.wanted = needed.filter((tile) => !this.tiles.has(tileKey(tile)));
    this.work();
  }

  work() {
    while (this.loading.size < AT_ONCE && this.wanted.length) {
      const tile = this.wanted.shift();
      if (!this.loading.has(tileKey(tile))) this.fetch(tile);
    }
  }

  async fetch(tile) {
    const key = tileKey(tile);
    const request = { image: new Image() };
    this.loading.set(key, request);
    const isStill = () => this.loading.get(key) === request;
    try {
      const bitmap = await bitmapOf(tileUrl(this.photo.tiles, tile), request.image);
      if (isStill()) this.keep(key, { bitmap });
      else bitmap.close();
    } catch {
      if (isStill()) this.keep(key, { failed: true });
    }
    if (!isStill()) return;
    this.loading.delete(key);
    this.work();
    this.onArrival();
  }

  keep(key, entry) {
    this.tiles.set(key, entry);
    for (const [oldest, { bitmap }] of this.tiles) {
      if (this.tiles.size <= KEPT_TILES) break;
      bitmap?.close();
      this.tiles.delete(oldest);
    }
  }

  /** After the connection came back, what failed is asked for again. */
  retry() {
    for (const [key, { failed }] of this.tiles) {
      if (failed) this.tiles.delete(key);
    }
    this.onArrival();
  }
}

/** Pixels that are decoded once; an <img> may be decoded again at any drawing. */
async function bitmapOf(url, image = new Image()) {
  image.decoding = "async";
  image.src = url;
  await image.decode();
  return createImageBitmap(image);
}

/** Whole device pixels, from rounded corners: neighbours share an edge without a seam. */
function deviceRect(box, view, ratio) {
  const left = Math.round((box.x_min * view.scale + view.x) * ratio);
  const top = Math.round((box.y_min * view.scale + view.y) * ratio);
  const right = Math.round((box.x_max * view.scale + view.x) * ratio);
  const bottom = Math.round((box.y_max * view.scale + view.y) * ratio);
  return { x: left, y: top, width: right - left, height: bottom - top };
}
