// Boxes as numbers: hit-testing, moving, resizing with flips, overlap. Pure: no DOM.
// A box is {x_min, y_min, x_max, y_max} in pixels of the upright photo, origin top left.

export const LEAST_SIDE_PX = 2;
/** The eight handles: which sides of the box each one moves (-1 the smaller coordinate, 1 the larger, 0 none). */
export const HANDLES = Object.freeze({
  nw: [-1, -1], n: [0, -1], ne: [1, -1], e: [1, 0], se: [1, 1], s: [0, 1], sw: [-1, 1], w: [-1, 0],
});

const STEPS_PER_PX = 10; // a tenth of a pixel is finer than any hand

export function widthOf(box) {
  return box.x_max - box.x_min;
}

export function heightOf(box) {
  return box.y_max - box.y_min;
}

export function areaOf(box) {
  return Math.max(widthOf(box), 0) * Math.max(heightOf(box), 0);
}

/** The box between two corners, whichever they are. */
export function between(a, b) {
  return {
    x_min: Math.min(a.x, b.x), y_min: Math.min(a.y, b.y), x_max: Math.max(a.x, b.x), y_max: Math.max(a.y, b.y),
  };
}

/** Coordinates only, cut to the photo, to tenths of a pixel, at least LEAST_SIDE_PX wide and high. */
export function cutTo(photo, box) {
  const [x_min, x_max] = cutSide(box.x_min, box.x_max, photo.width);
  const [y_min, y_max] = cutSide(box.y_min, box.y_max, photo.height);
  return { x_min, y_min, x_max, y_max };
}

function cutSide(first, last, length) {
  const round = (value) => Math.round(Math.min(Math.max(value, 0), length) * STEPS_PER_PX) / STEPS_PER_PX;
  const least = Math.min(LEAST_SIDE_PX, length);
  let [low, high] = [round(Math.min(first, last)), round(Math.max(first, last))];
  if (high - low < least) {
    low = round(Math.min(low, length - least));
    high = Math.min(low + least, length);
  }
  return [low, high];
}

/** The box elsewhere, whole: at the photo's edge it stops instead of shrinking. */
export function movedBy(photo, box, dx, dy) {
  const width = widthOf(box);
  const height = heightOf(box);
  const x = Math.min(Math.max(box.x_min + dx, 0), Math.max(photo.width - width, 0));
  const y = Math.min(Math.max(box.y_min + dy, 0), Math.max(photo.height - height, 0));
  return cutTo(photo, { x_min: x, y_min: y, x_max: x + width, y_max: y + height });
}

/** One handle dragged by (dx, dy) from the box as it was; dragged across the other side, the box flips over. */
export function resizedBy(photo, box, handle, dx, dy) {
  const [horizontal, vertical] = HANDLES[handle];
  return cutTo(photo, {
    x_min: box.x_min + (horizontal < 0 ? dx : 0),
    x_max: box.x_max + (horizontal > 0 ? dx : 0),
    y_min: box.y_min + (vertical < 0 ? dy : 0),
    y_max: box.y_max + (vertical > 0 ? dy : 0),
  });
}

/** Where the handle lies on the box. */
export function handlePoint(box, handle) {
  const [horizontal, vertical] = HANDLES[handle];
  return {
    x: horizontal < 0 ? box.x_min : horizontal > 0 ? box.x_max : (box.x_min + box.x_max) / 2,
    y: vertical < 0 ? box.y_min : vertical > 0 ? box.y_max : (box.y_min + box.y_max) / 2,
  };
}

/**
 * The handle under the point, or null. Corners win over sides, and on a box too small for all eight only the corner
 * nearest to the point counts, so that it can always be taken. The handle reaches `reach` px around itself, but into
 * a small box only a third of the way, so that its inside can still be grabbed to move it.
 */
export function handleAt(box, point, reach) {
  let best = null;
  let nearest = Infinity;
  const inside = contains(box, point);
  const inward = { x: Math.min(reach, widthOf(box) / 3), y: Math.min(reach, heightOf(box) / 3) };
  for (const name of Object.keys(HANDLES)) {
    const at = handlePoint(box, name);
    const dx = Math.abs(point.x - at.x);
    const dy = Math.abs(point.y - at.y);
    if (dx > (inside ? Math.max(inward.x, 0) : reach) || dy > (inside ? inward.y : reach)) continue;
    const distance = Math.hypot(dx, dy) + (name.length === 1 ? reach * 0.25 : 0);
    if (distance < nearest) [best, nearest] = [name, distance];
  }
  return best;
}

export function contains(box, point, slack = 0) {
  return (
    point.x >= box.x_min - slack && point.x <= box.x_max + slack &&
    point.y >= box.y_min - slack && point.y <= box.y_max + slack
  );
}

/** How far the point is from the box's outline. */
export function edgeDistance(box, point) {
  if (contains(box, point)) {
    return Math.min(point.x - box.x_min, box.x_max - point.x, point.y - box.y_min, box.y_max - point.y);
  }
  const dx = Math.max(box.x_min - point.x, 0, point.x - box.x_max);
  const dy = Math.max(box.y_min - point.y, 0, point.y - box.y_max);
  return Math.hypot(dx, dy);
}

/** Of `boxes`, the one that a person who points here means: one whose line is under the point, else the smallest around it. */
export function boxAt(boxes, point, slack) {
  let best = null;
  let rank = [2, Infinity];
  for (const box of boxes) {
    if (!contains(box, point, slack)) continue;
    const distance = edgeDistance(box, point);
    const mine = distance <= slack ? [0, distance] : [1, areaOf(box)];
    if (mine[0] < rank[0] || (mine[0] === rank[0] && mine[1] < rank[1])) [best, rank] = [box, mine];
  }
  return best;
}

export function overlaps(a, b) {
  return a.x_min <= b.x_max && a.x_max >= b.x_min && a.y_min <= b.y_max && a.y_max >= b.y_min;
}

/** Intersection over union, 0 to 1; 0 where either has no area. */
export function iou(a, b) {
  const width = Math.min(a.x_max, b.x_max) - Math.max(a.x_min, b.x_min);
  const height = Math.min(a.y_max, b.y_max) - Math.max(a.y_min, b.y_min);
  if (width <= 0 || height <= 0) return 0;
  const common = width * height;
  return common / (areaOf(a) + areaOf(b) - common);
}

export function sameSpot(a, b) {
  return a.x_min === b.x_min && a.y_min === b.y_min && a.x_max === b.x_max && a.y_max === b.y_max;
}
