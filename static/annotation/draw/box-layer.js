// The boxes at rest, and what is in hand. Two canvases: an edit draws the one box in hand, never the thousand others.
import { HANDLES, handlePoint, overlaps } from "./boxes.js";
import { shownPart, toScreen } from "./viewport.js";

const CASING = "rgb(5 8 8 / 75%)";
const WHITE = "#fff";
const NAMED_AT_MOST = 40;
const NUMBERED_AT_MOST = 160;
const NAME_FROM_PX = 46; // narrower boxes show their number only
const NUMBER_FROM_PX = 12;
const LETTER_PX = 14;
const LINE_PX = 4;
const NAME_HIGH_PX = 26;
const NAME_WIDE_PX = 420; // the longest name that is cut off by nothing

export class BoxLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /**
   * All boxes in sight but those in hand. `scene`: {boxes (an Answer), hidden (Set of keys), labels (Map by code),
   * weak (proposals shown on demand)}. `part` (photo px): only there something is different.
   */
  draw(view, size, ratio, scene, part = null) {
    const { context } = this;
    const shown = shownPart(view, size);
    const boxes = scene.isHidden ? [] : scene.answer.near(shown).filter((box) => !scene.hidden.has(box.key));
    boxes.sort((a, b) => a.order - b.order); // which lies above must not depend on which was edited last
    const look = { isDense: boxes.length > NUMBERED_AT_MOST, hasNames: boxes.length <= NAMED_AT_MOST };
    const isSameLook = look.isDense === this.look?.isDense && look.hasNames === this.look?.hasNames;
    this.look = look;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const patch = part && isSameLook ? wholePixels(around(view, part), ratio) : null;
    if (!patch) {
      context.clearRect(0, 0, size.width, size.height);
      this.drawPart(view, scene, boxes, shown, look);
      return;
    }
    context.save();
    context.beginPath();
    context.rect(...patch);
    context.clip();
    context.clearRect(...patch);
    const reach = reachOf(view, patch);
    this.drawPart(view, scene, boxes.filter((box) => overlaps(box, reach)), reach, look);
    context.restore();
  }

  drawPart(view, scene, boxes, window, { isDense, hasNames }) {
    const { context } = this;
    if (scene.isHidden) return;
    if (scene.weak.length) this.drawWeak(view, window, scene.weak);
    const paths = new Map();
    const casing = new Path2D();
    for (const box of boxes) {
      const rect = screenRect(view, box);
      const style = `${scene.labels.get(box.label)?.colour ?? WHITE}|${box.is_uncertain ? 1 : 0}`;
      if (!paths.has(style)) paths.set(style, new Path2D());
      paths.get(style).rect(...rect);
      casing.rect(...rect);
    }
    context.lineJoin = "miter";
    context.lineWidth = isDense ? 3 : 4;
    context.strokeStyle = CASING;
    context.stroke(casing);
    context.lineWidth = isDense ? 1.5 : 2;
    // In an order of its own, not in that of the boxes: a part must look as it does in the whole.
    for (const [style, path] of [...paths].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const [colour, isUncertain] = style.split("|");
      context.strokeStyle = colour;
      context.setLineDash(isUncertain === "1" ? [5, 4] : []);
      context.stroke(path);
    }
    context.setLineDash([]);
    if (!isDense) this.drawNames(view, boxes, scene.labels, hasNames);
  }

  drawWeak(view, window, weak) {
    const { context } = this;
    const path = new Path2D();
    for (const { box } of weak) {
      if (box.x_min > window.x_max || box.x_max < window.x_min || box.y_min > window.y_max || box.y_max < window.y_min) continue;
      path.rect(...screenRect(view, box));
    }
    context.lineWidth = 3;
    context.strokeStyle = CASING;
    context.stroke(path);
    context.lineWidth = 1.5;
    context.strokeStyle = WHITE;
    context.setLineDash([2, 4]);
    context.stroke(path);
    context.setLineDash([]);
  }

  drawNames(view, boxes, labels, hasNames) {
    for (const box of boxes) drawName(this.context, view, box, labels, hasNames);
  }
}

export class HandLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /** `hand`: {boxes in hand as they are at this moment, hasHandles, handlePx, pointed, frame, cross} */
  draw(view, size, ratio, scene, hand) {
    const { context } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    if (hand.cross) this.drawCross(hand.cross, size);
    if (!scene.isHidden) {
      if (hand.pointed) this.outline(view, hand.pointed, scene.labels, 5, 2.5);
      for (const box of hand.boxes) this.outline(view, box, scene.labels, 6, 3);
      if (hand.hasHandles && hand.boxes.length === 1) this.drawHandles(view, hand.boxes[0], hand.handlePx);
    }
    if (hand.frame) this.drawFrame(view, hand.frame, hand.isSelecting);
  }

  outline(view, box, labels, casing, line) {
    const { context } = this;
    const rect = screenRect(view, box);
    context.lineWidth = casing;
    context.strokeStyle = WHITE;
    context.strokeRect(...rect);
    context.lineWidth = line;
    context.strokeStyle = labels.get(box.label)?.colour ?? "#0b1011";
    context.setLineDash(box.is_uncertain ? [5, 4] : []);
    context.strokeRect(...rect);
    context.setLineDash([]);
    drawName(context, view, box, labels, true);
  }

  drawHandles(view, box, handlePx) {
    const { context } = this;
    const [, , width, height] = screenRect(view, box);
    const isSmall = Math.min(width, height) < handlePx * 3;
    context.fillStyle = WHITE;
    context.strokeStyle = "#050808";
    context.lineWidth = 1.5;
    for (const name of Object.keys(HANDLES)) {
      if (isSmall && name.length === 1) continue;
      const at = toScreen(view, handlePoint(box, name));
      const half = handlePx / 2;
      context.beginPath();
      context.rect(at.x - half, at.y - half, handlePx, handlePx);
      context.fill();
      context.stroke();
    }
  }

  drawFrame(view, frame, isSelecting) {
    const { context } = this;
    const rect = screenRect(view, frame);
    context.lineWidth = 3;
    context.strokeStyle = CASING;
    context.strokeRect(...rect);
    context.lineWidth = 1.5;
    context.strokeStyle = WHITE;
    context.setLineDash(isSelecting ? [6, 4] : []);
    context.strokeRect(...rect);
    context.setLineDash([]);
  }

  drawCross(point, size) {
    const { context } = this;
    for (const [width, colour] of [[3, "rgb(5 8 8 / 45%)"], [1, "rgb(255 255 255 / 80%)"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(0, point.y);
      context.lineTo(size.width, point.y);
      context.moveTo(point.x, 0);
      context.lineTo(point.x, size.height);
      context.stroke();
    }
  }
}

/** What boxes in this part of the photo and their names may have painted, in px of the window. */
function around(view, box) {
  const [x, y, width, height] = screenRect(view, box);
  return [x - LINE_PX, y - NAME_HIGH_PX, width + NAME_WIDE_PX + LINE_PX, height + NAME_HIGH_PX + LINE_PX];
}

/** Whole device pixels: a clip through the middle of one would leave a trace. */
function wholePixels([x, y, width, height], ratio) {
  const [left, top] = [Math.floor(x * ratio), Math.floor(y * ratio)];
  return [left / ratio, top / ratio, (Math.ceil((x + width) * ratio) - left) / ratio, (Math.ceil((y + height) * ratio) - top) / ratio];
}

/** Boxes of this part of the photo may have painted into the patch, with their lines or names. */
function reachOf(view, [x, y, width, height]) {
  return {
    x_min: (x - NAME_WIDE_PX - view.x) / view.scale, y_min: (y - LINE_PX - view.y) / view.scale,
    x_max: (x + width + LINE_PX - view.x) / view.scale, y_max: (y + height + NAME_HIGH_PX - view.y) / view.scale,
  };
}

function screenRect(view, box) {
  return [
    box.x_min * view.scale + view.x,
    box.y_min * view.scale + view.y,
    (box.x_max - box.x_min) * view.scale,
    (box.y_max - box.y_min) * view.scale,
  ];
}

function drawName(context, view, box, labels, hasName) {
  const [x, y, width] = screenRect(view, box);
  if (width < NUMBER_FROM_PX) return;
  const name = box.proposed_label || labels.get(box.label)?.name || box.label;
  const mark = box.is_uncertain ? "?" : "";
  const text = hasName && width >= NAME_FROM_PX ? `${box.order}${mark} ${name}` : `${box.order}${mark}`;
  const isAtTop = y < LETTER_PX + 6;
  context.font = `700 ${LETTER_PX}px "Alegreya Sans", "Gill Sans", sans-serif`;
  context.lineJoin = "round";
  context.lineWidth = 3.5;
  context.strokeStyle = "#050808";
  context.fillStyle = WHITE;
  const at = isAtTop ? [x + 4, y + LETTER_PX + 2] : [x + 1, y - 5];
  context.strokeText(text, ...at);
  context.fillText(text, ...at);
}
