// The boxes at rest, and what is in hand. Two canvases: an edit draws the one box in hand, never the thousand others.
import { HANDLES, handlePoint } from "./boxes.js";
import { shownPart, toScreen } from "./viewport.js";

const CASING = "rgb(5 8 8 / 75%)";
const WHITE = "#fff";
const NAMED_AT_MOST = 40;
const NUMBERED_AT_MOST = 160;
const NAME_FROM_PX = 46; // narrower boxes show their number only
const NUMBER_FROM_PX = 12;
const LETTER_PX = 14;

export class BoxLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /**
   * All boxes in sight but those in hand. `scene`: {boxes (an Answer), hidden (Set of keys), labels (Map by code),
   * weak (proposals shown on demand)}.
   */
  draw(view, size, ratio, scene) {
    const { context } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    if (scene.isHidden) return;
    const window = shownPart(view, size);
    if (scene.weak.length) this.drawWeak(view, window, scene.weak);
    const boxes = scene.answer.near(window).filter((box) => !scene.hidden.has(box.key));
    const paths = new Map();
    const casing = new Path2D();
    for (const box of boxes) {
      const rect = screenRect(view, box);
      const style = `${scene.labels.get(box.label)?.colour ?? WHITE}|${box.is_uncertain ? 1 : 0}`;
      if (!paths.has(style)) paths.set(style, new Path2D());
      paths.get(style).rect(...rect);
      casing.rect(...rect);
    }
    const isDense = boxes.length > NUMBERED_AT_MOST;
    context.lineJoin = "miter";
    context.lineWidth = isDense ? 3 : 4;
    context.strokeStyle = CASING;
    context.stroke(casing);
    context.lineWidth = isDense ? 1.5 : 2;
    for (const [style, path] of paths) {
      const [colour, isUncertain] = style.split("|");
      context.strokeStyle = colour;
      context.setLineDash(isUncertain === "1" ? [5, 4] : []);
      context.stroke(path);
    }
    context.setLineDash([]);
    if (!isDense) this.drawNames(view, boxes, scene.labels, boxes.length <= NAMED_AT_MOST);
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
