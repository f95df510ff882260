// Where the picture lies in its view. Pure: no DOM, so the tests can run it alone.
// A state is {scale, x, y}: a point p of the stage (CSS px at scale 1) is shown at p * scale + (x, y) of the view.

export const MAX_SCALE = 24;
export const WHOLE = Object.freeze({ scale: 1, x: 0, y: 0 });

/** The stage fills the view at scale 1, and never leaves a gap at larger scales. */
export function clamped({ scale, x, y }, view) {
  const s = Math.min(Math.max(scale, 1), MAX_SCALE);
  return {
    scale: s,
    x: Math.min(0, Math.max(x, view.width * (1 - s))),
    y: Math.min(0, Math.max(y, view.height * (1 - s))),
  };
}

/** Zoom by a factor so that the point (px, py) of the view stays where it is. */
export function zoomedAt(state, factor, px, py, view) {
  const scale = Math.min(Math.max(state.scale * factor, 1), MAX_SCALE);
  const ratio = scale / state.scale;
  return clamped({ scale, x: px - (px - state.x) * ratio, y: py - (py - state.y) * ratio }, view);
}

export function moved(state, dx, dy, view) {
  return clamped({ ...state, x: state.x + dx, y: state.y + dy }, view);
}

/** Bring the point (px, py) of the stage to the middle of the view. */
export function centredOn(state, px, py, view) {
  return clamped(
    { ...state, x: view.width / 2 - px * state.scale, y: view.height / 2 - py * state.scale },
    view,
  );
}

/** Photo pixels per CSS pixel of the stage, for a photo that is shown whole in the view (object-fit: contain). */
export function photoPxPerCssPx(photo, view) {
  return Math.max(photo.width / view.width, photo.height / view.height);
}

/** A point of the photo (px, origin top left) as a point of the stage (CSS px at scale 1). */
export function photoToStage(px, py, photo, view) {
  const unit = photoPxPerCssPx(photo, view);
  return {
    x: (view.width - photo.width / unit) / 2 + px / unit,
    y: (view.height - photo.height / unit) / 2 + py / unit,
  };
}

/**
 * The deep-zoom tiles that the view needs, with their places on the stage (CSS px at scale 1).
 * `levels` are smallest first; `sharp` is the width of the picture that is shown anyway: while that is fine enough for
 * the screen (`density` device pixels a CSS px), there are none.
 */
export function neededTiles(state, photo, view, { levels, tile_px: tilePx }, sharp, density = 1) {
  const unit = photoPxPerCssPx(photo, view);
  const wantedWidth = (photo.width / unit) * state.scale * density;
  if (wantedWidth <= sharp) return [];
  const level = levels.find(({ width }) => width >= wantedWidth) ?? levels.at(-1);
  if (level.width <= sharp) return [];
  const origin = photoToStage(0, 0, photo, view);
  const step = (tilePx * photo.width) / level.width / unit; // a tile's side on the stage
  const first = { x: (-state.x / state.scale - origin.x) / step, y: (-state.y / state.scale - origin.y) / step };
  const last = { x: first.x + view.width / state.scale / step, y: first.y + view.height / state.scale / step };
  const tiles = [];
  for (let row = Math.max(0, Math.floor(first.y)); row < Math.min(level.rows, Math.ceil(last.y)); row += 1) {
    for (let column = Math.max(0, Math.floor(first.x)); column < Math.min(level.columns, Math.ceil(last.x)); column += 1) {
      tiles.push({
        level: level.level,
        column,
        row,
        left: origin.x + column * step,
        top: origin.y + row * step,
        width: (Math.min(tilePx, level.width - column * tilePx) * step) / tilePx,
        height: (Math.min(tilePx, level.height - row * tilePx) * step) / tilePx,
      });
    }
  }
  return tiles;
}
