// Which boxes are near here: a uniform grid over the photo. Pure.
// A grid and not a packed R-tree, because boxes move with every edit: taking one out and in again touches a few cells,
// and animals of one survey are about the same size, which is what a grid is good at.

const CELLS_PER_SIDE = 48;

export class GridIndex {
  constructor(photo) {
    this.cellPx = Math.max(photo.width, photo.height, 1) / CELLS_PER_SIDE;
    this.columns = Math.max(1, Math.ceil(photo.width / this.cellPx));
    this.rows = Math.max(1, Math.ceil(photo.height / this.cellPx));
    this.cells = new Map();
    this.boxes = new Map();
  }

  set(key, box) {
    this.delete(key);
    const spot = { x_min: box.x_min, y_min: box.y_min, x_max: box.x_max, y_max: box.y_max };
    this.boxes.set(key, spot);
    this.eachCell(spot, (cell) => {
      const keys = this.cells.get(cell);
      if (keys) keys.add(key);
      else this.cells.set(cell, new Set([key]));
    });
  }

  delete(key) {
    const box = this.boxes.get(key);
    if (!box) return;
    this.boxes.delete(key);
    this.eachCell(box, (cell) => {
      const keys = this.cells.get(cell);
      keys.delete(key);
      if (!keys.size) this.cells.delete(cell);
    });
  }

  /** Keys of the boxes that touch the window, each once, in no particular order. */
  near(window) {
    const covered = (this.column(window.x_max) - this.column(window.x_min) + 1) * (this.row(window.y_max) - this.row(window.y_min) + 1);
    const candidates = covered > this.cells.size ? this.boxes.keys() : this.fromCells(window);
    const found = [];
    for (const key of candidates) {
      const box = this.boxes.get(key);
      if (box.x_min <= window.x_max && box.x_max >= window.x_min && box.y_min <= window.y_max && box.y_max >= window.y_min) {
        found.push(key);
      }
    }
    return found;
  }

  at(point, slack = 0) {
    return this.near({ x_min: point.x - slack, y_min: point.y - slack, x_max: point.x + slack, y_max: point.y + slack });
  }

  fromCells(window) {
    const keys = new Set();
    this.eachCell(window, (cell) => {
      for (const key of this.cells.get(cell) ?? []) keys.add(key);
    });
    return keys;
  }

  eachCell(box, visit) {
    const last = { column: this.column(box.x_max), row: this.row(box.y_max) };
    for (let row = this.row(box.y_min); row <= last.row; row += 1) {
      for (let column = this.column(box.x_min); column <= last.column; column += 1) visit(row * this.columns + column);
    }
  }

  column(x) {
    return Math.min(Math.max(Math.floor(x / this.cellPx), 0), this.columns - 1);
  }

  row(y) {
    return Math.min(Math.max(Math.floor(y / this.cellPx), 0), this.rows - 1);
  }
}
