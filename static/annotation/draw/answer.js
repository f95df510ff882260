// The answer that is being drawn: boxes, "nothing on it", undo and redo without limit. Pure.
// Boxes are never changed in place: an edit puts new ones, so an older state is kept by keeping its boxes.
import { sameSpot } from "./boxes.js";
import { GridIndex } from "./grid-index.js";

const MERGE_MS = 900; // held arrow keys are one step back, not fifty

export class Answer {
  /** `onChange(keys, boxes)` is told which boxes an edit touched, and how they were and are; null: all. */
  constructor(photo, { onChange = () => {}, now = () => performance.now() } = {}) {
    this.photo = photo;
    this.onChange = onChange;
    this.now = now;
    this.reset([], false);
  }

  /** A new beginning without a way back: what the server or the browser had kept. `firstFree`: number of the next box. */
  reset(boxes, isEmpty, firstFree = 1) {
    this.boxes = new Map();
    this.index = new GridIndex(this.photo);
    this.isEmpty = isEmpty;
    this.done = [];
    this.undone = [];
    this.revision = 0;
    this.replaced = 0;
    this.nextOrder = firstFree;
    for (const box of boxes) this.put(this.complete(box));
    this.sorted = null;
    this.onChange(null);
  }

  complete(box) {
    const order = box.order ?? this.nextOrder;
    this.nextOrder = Math.max(this.nextOrder, order + 1);
    return {
      key: box.key ?? `b${order}`,
      order,
      x_min: box.x_min, y_min: box.y_min, x_max: box.x_max, y_max: box.y_max,
      label: box.label,
      proposal: box.proposal ?? null,
      note: box.note ?? "",
      is_uncertain: Boolean(box.is_uncertain),
      proposed_label: box.proposed_label ?? "",
    };
  }

  get(key) {
    return this.boxes.get(key);
  }

  get size() {
    return this.boxes.size;
  }

  /** In the order of the list: the model's by number, then what was drawn. */
  list() {
    this.sorted ??= [...this.boxes.values()].sort((a, b) => a.order - b.order);
    return this.sorted;
  }

  /** @returns {string} key of the new box */
  add(box) {
    const whole = this.complete({ ...box, order: undefined, key: undefined });
    this.edit("add", [[whole.key, null, whole]], false);
    return whole.key;
  }

  remove(keys) {
    const steps = keys.filter((key) => this.boxes.has(key)).map((key) => [key, this.boxes.get(key), null]);
    if (steps.length) this.edit("remove", steps);
    return steps.length;
  }

  /** `changes(box)` gives what becomes different. One step back undoes it for all keys. */
  change(keys, changes, kind = "change") {
    const steps = [];
    for (const key of keys) {
      const before = this.boxes.get(key);
      if (!before) continue;
      const after = { ...before, ...changes(before) };
      if (!sameBox(before, after)) steps.push([key, before, after]);
    }
    if (steps.length) this.edit(kind, steps);
    return steps.length;
  }

  /** Everything replaced by another state, as one step that can be undone. */
  replace(boxes, isEmpty) {
    const steps = [...this.boxes].map(([key, before]) => [key, before, null]);
    for (const box of boxes) {
      const whole = this.complete({ ...box, key: `r${(this.replaced += 1)}` }); // numbers may come back, keys never
      steps.push([whole.key, null, whole]);
    }
    this.edit("replace", steps, isEmpty);
  }

  confirmEmpty(isEmpty) {
    if (isEmpty === this.isEmpty) return;
    const steps = isEmpty ? [...this.boxes].map(([key, before]) => [key, before, null]) : [];
    this.edit("empty", steps, isEmpty);
  }

  edit(kind, steps, isEmpty = this.isEmpty) {
    const command = { kind, steps, emptyBefore: this.isEmpty, emptyAfter: isEmpty, at: this.now() };
    const last = this.done.at(-1);
    if (this.undone.length === 0 && last && mergeable(last, command)) {
      last.steps = last.steps.map((step, index) => [step[0], step[1], command.steps[index][2]]);
      last.at = command.at;
    } else {
      this.done.push(command);
    }
    this.undone = [];
    this.apply(steps, 2, isEmpty);
  }

  undo() {
    const command = this.done.pop();
    if (!command) return null;
    this.undone.push(command);
    this.apply(command.steps, 1, command.emptyBefore);
    return command;
  }

  redo() {
    const command = this.undone.pop();
    if (!command) return null;
    this.done.push({ ...command, at: -Infinity });
    this.apply(command.steps, 2, command.emptyAfter);
    return command;
  }

  /** The next edit is a step of its own, even if it is of the same kind: the key was let go. */
  endStep() {
    const last = this.done.at(-1);
    if (last) last.at = -Infinity;
  }

  apply(steps, side, isEmpty) {
    for (const step of steps) {
      if (step[side]) this.put(step[side]);
      else this.drop(step[0]);
    }
    this.isEmpty = isEmpty;
    this.revision += 1;
    this.onChange(steps.map(([key]) => key), steps.flatMap(([, before, after]) => [before, after].filter(Boolean)));
  }

  put(box) {
    if (!this.boxes.has(box.key) || this.boxes.get(box.key).order !== box.order) this.sorted = null;
    else if (this.sorted) this.sorted[this.sorted.indexOf(this.boxes.get(box.key))] = box;
    this.boxes.set(box.key, box);
    this.index.set(box.key, box);
  }

  drop(key) {
    this.boxes.delete(key);
    this.index.delete(key);
    this.sorted = null;
  }

  near(window) {
    return this.index.near(window).map((key) => this.boxes.get(key));
  }
}

/** What an expert's step may be joined with: the same movement of the same boxes, without a pause. */
function mergeable(last, next) {
  return (
    (next.kind === "nudge" || next.kind === "stretch" || next.kind === "note") &&
    last.kind === next.kind &&
    next.at - last.at < MERGE_MS &&
    last.steps.length === next.steps.length &&
    last.steps.every((step, index) => step[0] === next.steps[index][0])
  );
}

export function sameBox(a, b) {
  return (
    sameSpot(a, b) && a.label === b.label && a.note === b.note && a.is_uncertain === b.is_uncertain &&
    a.proposed_label === b.proposed_label && a.proposal === b.proposal
  );
}

/** The box as it travels; local keys and order stay here. */
export function toWire({ x_min, y_min, x_max, y_max, label, proposal, note, is_uncertain, proposed_label }) {
  return { x_min, y_min, x_max, y_max, label, proposal, note, is_uncertain, proposed_label };
}

/** Equal answers, whatever the order of their boxes. */
export function sameAnswer(first, second) {
  if (first.is_empty !== second.is_empty || first.boxes.length !== second.boxes.length) return false;
  const spell = (box) => JSON.stringify(toWire({ note: "", is_uncertain: false, proposed_label: "", proposal: null, ...box }));
  const theirs = second.boxes.map(spell).sort();
  return first.boxes.map(spell).sort().every((text, index) => text === theirs[index]);
}

/** What became of one box's proposal: "drawn", "kept", or the list of what is different. */
export function fateOf(box, proposals) {
  const proposal = box.proposal === null ? undefined : proposals.get(box.proposal);
  if (!proposal) return { isDrawn: true, isMoved: false, isRelabelled: false };
  return {
    isDrawn: false,
    isMoved: !sameSpot(box, proposal.box),
    isRelabelled: box.label !== proposal.label || Boolean(box.proposed_label),
  };
}

/** Counts for the summary before sending; `proposals` by number, weak ones count only where they were taken. */
export function differences(boxes, proposals) {
  const counts = { kept: 0, moved: 0, relabelled: 0, deleted: 0, drawn: 0 };
  const seen = new Set();
  for (const box of boxes) {
    const fate = fateOf(box, proposals);
    if (fate.isDrawn) {
      counts.drawn += 1;
      continue;
    }
    seen.add(box.proposal);
    if (fate.isMoved) counts.moved += 1;
    if (fate.isRelabelled) counts.relabelled += 1;
    if (!fate.isMoved && !fate.isRelabelled) counts.kept += 1;
  }
  for (const [number, proposal] of proposals) {
    if (!proposal.is_weak && !seen.has(number)) counts.deleted += 1;
  }
  return counts;
}
