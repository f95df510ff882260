// The grid of crops: ranges with Shift, arrow keys, all and none, how many are chosen. Without it the boxes are plain
// checkboxes in a form, which is sent the same way.
import { columnsOf, range, step } from "./review-choice.js";

const filters = document.querySelector("[data-review-filters]");
filters?.addEventListener("change", (event) => {
  // Another source has other labels.
  if (event.target.name === "source") filters.elements.label.disabled = true;
  filters.requestSubmit();
});

const form = document.querySelector("[data-review]");
if (form?.querySelector('input[name="box"]')) {
  const boxes = [...form.querySelectorAll('input[name="box"]')];
  const all = form.querySelector("[data-choose-all]");
  const said = form.querySelector("[data-chosen]");
  const buttons = [...form.querySelectorAll("[data-needs-choice]")];
  const code = form.elements.code;
  const bar = form.querySelector("[data-review-bar]");
  let anchor = 0;
  let focused = 0;

  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    const text = chosen ? interpolate(ngettext("%s chosen", "%s chosen", chosen), [chosen]) : gettext("None chosen");
    if (said.textContent !== text) said.textContent = text;
    for (const button of buttons) button.disabled = chosen === 0;
    bar.classList.toggle("review-bar--chosen", chosen > 0);
  };

  const choose = (states) => {
    boxes.forEach((box, index) => {
      box.checked = states[index];
    });
    show();
  };

  // One stop for Tab in the grid; arrows go on from there.
  const focusOn = (index) => {
    boxes[focused].tabIndex = -1;
    focused = index;
    boxes[focused].tabIndex = 0;
    boxes[focused].focus();
  };
  boxes.forEach((box, index) => {
    box.tabIndex = index ? -1 : 0;
  });

  form.addEventListener("click", (event) => {
    const index = boxes.indexOf(event.target);
    if (index < 0) return;
    boxes[focused].tabIndex = -1;
    focused = index;
    boxes[focused].tabIndex = 0;
    if (event.shiftKey && index !== anchor) choose(range(boxes.map((box) => box.checked), anchor, index));
    else anchor = index;
    show();
  });
  // Shift and a click would choose text.
  form.querySelector("[data-crops]").addEventListener("mousedown", (event) => {
    if (event.shiftKey) event.preventDefault();
  });

  form.addEventListener("keydown", (event) => {
    const index = boxes.indexOf(event.target);
    if (index < 0 || event.altKey || event.metaKey) return;
    if (event.key.toLowerCase() === "a") {
      event.preventDefault();
      choose(boxes.map(() => true));
    } else if (event.key === "Escape") {
      choose(boxes.map(() => false));
    } else if (event.key === "Enter") {
      event.preventDefault(); // Enter would send the form with its first button
      code.focus();
    } else {
      const columns = columnsOf(boxes.map((box) => box.closest("li").offsetTop));
      const to = step(event.key, index, boxes.length, columns);
      if (to === index) return;
      event.preventDefault();
      if (event.shiftKey) {
        const states = boxes.map((box) => box.checked);
        states[anchor] = true;
        choose(range(states, anchor, to));
      } else {
        anchor = to;
      }
      focusOn(to);
    }
  });

  all.addEventListener("change", () => choose(boxes.map(() => all.checked)));
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value === "relabel" && !code.value) {
      event.preventDefault();
      code.focus();
      code.setCustomValidity(gettext("Choose the new label first."));
      code.reportValidity();
    }
  });
  for (const control of [code, ...buttons]) {
    control.addEventListener(control === code ? "change" : "click", () => code.setCustomValidity(""));
  }
  addEventListener("pageshow", show); // going back may keep what was chosen
  show();
}

document.querySelector("[data-review-done]")?.focus({ preventScroll: true });
