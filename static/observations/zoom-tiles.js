// Lays the tiles of a large photo over its display rendition, where that is too coarse for the zoom.
import { neededTiles } from "./zoom-geometry.js";

const REST_MS = 120;

export class TileLayer {
  /** `source` is what the page says of the tiles: {url, tile_px, levels}. */
  constructor(image, photo, source) {
    this.photo = photo;
    this.source = source;
    this.sharp = Math.min(photo.width, image.naturalWidth || Number(image.dataset.displayWidth));
    this.shown = new Map();
    this.layer = document.createElement("div");
    this.layer.className = "plate__tiles";
    image.after(this.layer);
  }

  /** The view moved or changed its size: look again once the hand rests. */
  update(state, view) {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.lay(state, view), REST_MS);
  }

  lay(state, view) {
    const needed = neededTiles(state, this.photo, view, this.source, this.sharp, window.devicePixelRatio);
    const keys = new Set();
    for (const tile of needed) {
      const key = `${tile.level}/${tile.column}_${tile.row}`;
      keys.add(key);
      let image = this.shown.get(key);
      if (!image) {
        image = this.load(tile);
        this.shown.set(key, image);
      }
      for (const side of ["left", "top", "width", "height"]) image.style[side] = `${tile[side]}px`;
    }
    this.wanted = keys;
    this.clear();
  }

  load({ level, column, row }) {
    const image = new Image();
    image.alt = "";
    image.draggable = false;
    // A tile that does not come leaves the coarser picture in sight.
    image.onload = () => this.clear();
    image.onerror = () => image.remove();
    image.src = this.source.url.replace("{level}", level).replace("{column}", column).replace("{row}", row);
    this.layer.append(image);
    return image;
  }

  /** Tiles that are out of sight go; those of another level once their better ones are there. */
  clear() {
    const isComplete = [...this.wanted].every((key) => this.shown.get(key).complete);
    if (!isComplete) return;
    for (const [key, image] of this.shown) {
      if (this.wanted.has(key)) continue;
      image.remove();
      this.shown.delete(key);
    }
  }
}
