// Which tiles of a deep-zoom picture a window needs. Pure.
// Level 0 is the smallest, the last one is the photo in full size, each half of the next; tiles do not overlap.

/** The smallest level that is sharp at this scale (device px per photo px), with a little tolerance for the speed. */
export function levelFor(tiles, photo, devicePxPerPhotoPx) {
  const wanted = photo.width * devicePxPerPhotoPx * 0.85;
  return tiles.levels.find((level) => level.width >= wanted) ?? tiles.levels.at(-1);
}

/** Tiles of a level that touch the window (photo px), nearest to its middle first. */
export function tilesIn(tiles, level, photo, window) {
  const size = spanOf(tiles, level, photo);
  const first = { column: bounded(window.x_min / size, level.columns), row: bounded(window.y_min / size, level.rows) };
  const last = { column: bounded(window.x_max / size, level.columns), row: bounded(window.y_max / size, level.rows) };
  const middle = { column: (first.column + last.column) / 2, row: (first.row + last.row) / 2 };
  const found = [];
  for (let row = first.row; row <= last.row; row += 1) {
    for (let column = first.column; column <= last.column; column += 1) found.push({ level: level.level, column, row });
  }
  const distance = (tile) => Math.hypot(tile.column - middle.column, tile.row - middle.row);
  return found.sort((a, b) => distance(a) - distance(b));
}

/** Where a tile lies on the photo. */
export function tileBox(tiles, photo, { level, column, row }) {
  const span = spanOf(tiles, levelNamed(tiles, level), photo);
  return {
    x_min: column * span,
    y_min: row * span,
    x_max: Math.min((column + 1) * span, photo.width),
    y_max: Math.min((row + 1) * span, photo.height),
  };
}

/** The tile one level smaller that shows the same place, or null. */
export function parentOf(tiles, { level, column, row }) {
  const smaller = tiles.levels.find((other) => other.level === level - 1);
  if (!smaller) return null;
  const parent = { level: level - 1, column: Math.floor(column / 2), row: Math.floor(row / 2) };
  return parent.column < smaller.columns && parent.row < smaller.rows ? parent : null;
}

export function tileUrl(tiles, { level, column, row }) {
  return tiles.url.replace("{level}", level).replace("{column}", column).replace("{row}", row);
}

export function tileKey({ level, column, row }) {
  return `${level}/${column}/${row}`;
}

/** Side of a tile in photo px: levels are whole numbers of pixels, so each has a true factor of its own near 2^n. */
function spanOf(tiles, level, photo) {
  return (tiles.tile_px * photo.width) / level.width;
}

function levelNamed(tiles, number) {
  return tiles.levels.find((level) => level.level === number);
}

function bounded(value, count) {
  return Math.min(Math.max(Math.floor(value), 0), count - 1);
}
