// The results page: list and picture point at each other; the threshold hides what the model is less sure of.
import { Zoom } from "./zoom.js";

const LETTER_PX = 15; // on the screen, at any zoom
const SMALL_LETTER_PX = 11;
const PX_PER_NAME = 36;
const SMALL_BOX_PX = 26; // below it numbers would cover the animals
const result = document.querySelector("[data-result]");
const plate = result.querySelector("[data-plate]");
const marksGroup = plate.querySelector("[data-marks]");
const list = result.querySelector("[data-animals]");
const threshold = result.querySelector("[data-threshold]");
const commentBox = document.getElementById("comment-box");

/** number -> {mark, item, score, isShown} */
const animals = new Map();
for (const item of list.children) {
  animals.set(item.dataset.number, { item, score: Number(item.dataset.score), isShown: true });
}
for (const mark of marksGroup.children) animals.get(mark.dataset.number).mark = mark;

const longSides = [...marksGroup.children].map((mark) => {
  const box = mark.firstElementChild;
  return Math.max(Number(box.getAttribute("width")), Number(box.getAttribute("height")));
});
const medianBoxPx = longSides.sort((a, b) => a - b)[longSides.length >> 1];

const zoom = new Zoom(plate, (photoPxPerScreenPx) => {
  const areSmall = medianBoxPx / photoPxPerScreenPx < SMALL_BOX_PX;
  plate.classList.toggle("plate--small-boxes", areSmall);
  marksGroup.setAttribute("font-size", ((areSmall ? SMALL_LETTER_PX : LETTER_PX) * photoPxPerScreenPx).toFixed(2));
  showNames();
});

/** Names beside the numbers as long as there is room for them; pointing at a box shows its name anyway. */
function showNames() {
  let shown = 0;
  for (const animal of animals.values()) shown += animal.isShown;
  const room = (plate.clientWidth / PX_PER_NAME) * zoom.state.scale;
  plate.classList.toggle("plate--crowded", shown > room);
}

// --- One animal at a time is active (chosen); one may be pointed at ----------------------------------------
let active = null;
let pointed = null;

function setState(number, name, on) {
  const animal = animals.get(number);
  if (!animal) return;
  animal.item.classList.toggle(name, on);
  animal.mark.classList.toggle(name, on);
  if (on) marksGroup.append(animal.mark); // last drawn lies on top
}

function point(number) {
  if (number === pointed) return;
  setState(pointed, "is-pointed", false);
  pointed = number;
  setState(pointed, "is-pointed", true);
}

// The active animal carries the button that begins a comment on it.
const commentButton = commentBox
  ? result.querySelector("[data-comment-button]").content.firstElementChild.cloneNode(true)
  : null;
commentButton?.addEventListener("click", () => {
  commentBox.value = active;
  document.getElementById("comment-body").focus();
});

function activate(number, { focus = false, reveal = false } = {}) {
  const animal = animals.get(number);
  if (!animal) return;
  if (active !== null) {
    setState(active, "is-active", false);
    link(active).tabIndex = -1;
  }
  active = number;
  setState(active, "is-active", true);
  if (commentButton) {
    commentButton.textContent = commentButton.dataset.template.replace("{number}", number);
    animal.item.append(commentButton);
  }
  link(active).tabIndex = 0;
  if (focus) link(active).focus({ preventScroll: true });
  scrollIntoList(animal.item);
  if (reveal) {
    const box = animal.mark.firstElementChild;
    const at = (name) => Number(box.getAttribute(name));
    zoom.reveal(at("x") + at("width") / 2, at("y") + at("height") / 2);
  }
}

/** Scroll the list, never the page: the picture must stay in sight. */
function scrollIntoList(item) {
  if (list.scrollHeight <= list.clientHeight) return;
  const frame = list.getBoundingClientRect();
  const row = item.getBoundingClientRect();
  if (row.top < frame.top) list.scrollTop += row.top - frame.top - 8;
  else if (row.bottom > frame.bottom) list.scrollTop += row.bottom - frame.bottom + 8;
}

function link(number) {
  return animals.get(number).item.querySelector(".animal__main");
}

function numberAt(event) {
  return event.target.closest?.("[data-number]")?.dataset.number ?? null;
}

for (const place of [marksGroup, list]) {
  place.addEventListener("pointerover", (event) => point(numberAt(event)));
  place.addEventListener("pointerleave", () => point(null));
}
marksGroup.addEventListener("click", (event) => {
  const number = numberAt(event);
  if (number === null) return;
  event.preventDefault();
  activate(number);
});
list.addEventListener("click", (event) => {
  const number = numberAt(event);
  if (number === null) return;
  if (event.target.closest("a")) {
    event.preventDefault();
    activate(number, { focus: true, reveal: true });
  }
});
list.addEventListener("focusin", (event) => {
  const number = numberAt(event);
  if (number !== null && event.target.matches(".animal__main") && number !== active) activate(number, { reveal: true });
});
commentBox?.addEventListener("change", () => {
  if (commentBox.value) activate(commentBox.value, { reveal: true });
});
document.addEventListener("click", (event) => {
  const reference = event.target.closest?.("[data-show-box]");
  if (!reference || !animals.has(reference.dataset.showBox)) return;
  event.preventDefault();
  activate(reference.dataset.showBox, { focus: true, reveal: true });
  plate.scrollIntoView({ block: "nearest" });
});

// --- Arrow keys walk through the list; it is one stop of the Tab key ----------------------------------------
for (const { item } of animals.values()) item.querySelector(".animal__main").tabIndex = -1;
const first = animals.keys().next().value;
link(first).tabIndex = 0;

function step(number, direction) {
  const numbers = [...animals.keys()].filter((other) => animals.get(other).isShown);
  const index = numbers.indexOf(number);
  return { next: numbers[index + 1], previous: numbers[index - 1], first: numbers[0], last: numbers.at(-1) }[direction];
}
const KEYS = { ArrowDown: "next", ArrowUp: "previous", Home: "first", End: "last" };
list.addEventListener("keydown", (event) => {
  const direction = KEYS[event.key];
  if (!direction || !event.target.matches(".animal__main")) return;
  event.preventDefault();
  const number = step(numberAt(event), direction);
  if (number) activate(number, { focus: true, reveal: true });
});

// --- Threshold, and boxes on or off ------------------------------------------------------------------------
const shownCount = result.querySelector("[data-shown]");
const thresholdValue = result.querySelector("[data-threshold-value]");

function applyThreshold() {
  const value = Number(threshold.value);
  const isLowest = value <= Number(threshold.min);
  let shown = 0;
  for (const animal of animals.values()) {
    const isShown = isLowest || animal.score >= value;
    shown += isShown;
    if (isShown === animal.isShown) continue;
    animal.isShown = isShown;
    animal.item.hidden = !isShown;
    animal.mark.toggleAttribute("hidden", !isShown);
  }
  thresholdValue.textContent = `${Math.round(value * 100)}\u202f%`;
  shownCount.textContent = shownCount.dataset.template.replace("{shown}", shown).replace("{total}", animals.size);
  showNames();
  for (const download of result.querySelectorAll("[data-with-threshold]")) {
    download.search = isLowest ? "" : `?confidence=${value}`;
  }
}
let waiting = 0;
threshold.addEventListener("input", () => {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    applyThreshold();
  });
});
applyThreshold();

const boxesToggle = plate.querySelector("[data-boxes-toggle]");
boxesToggle.addEventListener("click", () => {
  const isOn = boxesToggle.getAttribute("aria-pressed") !== "true";
  boxesToggle.setAttribute("aria-pressed", String(isOn));
  plate.classList.toggle("plate--hidden-boxes", !isOn);
});

// --- An address that names a box ("#box-3") ----------------------------------------------------------------
const named = location.hash.match(/^#(?:box|mark)-(\d+)$/)?.[1];
if (named) activate(named);
