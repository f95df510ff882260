// Where the photo lies in its window. Pure: no DOM, so the tests run it alone.
// A view is {scale, x, y}: a point p of the photo (its own pixels) is shown at p * scale + (x, y) CSS px of the window.

const FIT_MARGIN_PX = 16;
const MOST_CSS_PX_PER_PHOTO_PX = 40;

/** The whole photo, in the middle, with a little air. */
export function fitted(photo, size) {
  const air = Math.min(FIT_MARGIN_PX, size.width / 8, size.height / 8);
  const scale = Math.min((size.width - 2 * air) / photo.width, (size.height - 2 * air) / photo.height);
  return centred({ x: photo.width / 2, y: photo.height / 2 }, scale, size);
}

/** One pixel of the photo on one pixel of the screen, around what is in the middle now. */
export function realPixels(view, photo, size, devicePixelRatio = 1) {
  return clamped(centred(toPhoto(view, middleOf(size)), 1 / devicePixelRatio, size), photo, size);
}

export function toPhoto(view, point) {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}

export function toScreen(view, point) {
  return { x: point.x * view.scale + view.x, y: point.y * view.scale + view.y };
}

/** The part of the photo's plane that the window shows, as a box; it may reach beyond the photo. */
export function shownPart(view, size) {
  const first = toPhoto(view, { x: 0, y: 0 });
  const last = toPhoto(view, { x: size.width, y: size.height });
  return { x_min: first.x, y_min: first.y, x_max: last.x, y_max: last.y };
}

/** Larger or smaller by `factor`; the point of the window stays on the same point of the photo. */
export function zoomedAt(view, factor, point, photo, size) {
  const { lowest, highest } = scaleLimits(photo, size);
  const scale = Math.min(Math.max(view.scale * factor, lowest), highest);
  const at = toPhoto(view, point);
  return clamped({ scale, x: point.x - at.x * scale, y: point.y - at.y * scale }, photo, size);
}

export function moved(view, dx, dy, photo, size) {
  return clamped({ scale: view.scale, x: view.x + dx, y: view.y + dy }, photo, size);
}

/**
 * The middle of the window never leaves the photo: no way to get lost, and yet the outermost corner can be brought to
 * the middle, where it is easiest to work on.
 */
export function clamped(view, photo, size) {
  const { lowest, highest } = scaleLimits(photo, size);
  const scale = Math.min(Math.max(view.scale, lowest), highest);
  const middle = middleOf(size);
  return {
    scale,
    x: Math.min(middle.x, Math.max(view.x, middle.x - photo.width * scale)),
    y: Math.min(middle.y, Math.max(view.y, middle.y - photo.height * scale)),
  };
}

/** The view that follows when the window itself changes its size: what was in the middle stays there. */
export function resized(view, photo, before, after) {
  const middle = toPhoto(view, middleOf(before));
  return clamped(centred(middle, view.scale, after), photo, after);
}

/** Moved, and if it must be zoomed out, just so far that the whole box is in sight with some air around it. */
export function revealing(view, box, photo, size, margin = 48) {
  const width = box.x_max - box.x_min;
  const height = box.y_max - box.y_min;
  const room = { width: Math.max(size.width - 2 * margin, 1), height: Math.max(size.height - 2 * margin, 1) };
  const most = Math.min(room.width / width, room.height / height);
  if (view.scale > most) return clamped(centred(centreOf(box), most, size), photo, size);
  const first = toScreen(view, { x: box.x_min, y: box.y_min });
  const last = toScreen(view, { x: box.x_max, y: box.y_max });
  return moved(view, push(first.x, last.x, size.width, margin), push(first.y, last.y, size.height, margin), photo, size);
}

/** So close that the box takes about a third of the window. */
export function closeTo(box, photo, size) {
  const width = Math.max(box.x_max - box.x_min, 1);
  const height = Math.max(box.y_max - box.y_min, 1);
  const scale = Math.min(size.width / width, size.height / height) / 3;
  return clamped(centred(centreOf(box), scale, size), photo, size);
}

export function centreOf(box) {
  return { x: (box.x_min + box.x_max) / 2, y: (box.y_min + box.y_max) / 2 };
}

export function middleOf(size) {
  return { x: size.width / 2, y: size.height / 2 };
}

function centred(point, scale, size) {
  return { scale, x: size.width / 2 - point.x * scale, y: size.height / 2 - point.y * scale };
}

function scaleLimits(photo, size) {
  const whole = wholeScale(photo, size);
  return { lowest: whole * 0.5, highest: Math.max(MOST_CSS_PX_PER_PHOTO_PX, whole * 2) };
}

function wholeScale(photo, size) {
  return Math.min(size.width / photo.width, size.height / photo.height);
}

function push(first, last, length, margin) {
  if (first < margin) return margin - first;
  if (last > length - margin) return length - margin - last;
  return 0;
}
