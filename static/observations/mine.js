// Choosing several observations: choose all, how many are chosen, and nothing to delete while none is.
const form = document.getElementById("mine-form");
if (form) {
  const all = document.getElementById("mine-all");
  const said = document.getElementById("mine-said");
  const bar = document.getElementById("mine-bar");
  const button = document.getElementById("mine-delete");
  const boxes = [...form.querySelectorAll('input[name="chosen"]')];

  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    said.textContent =
      chosen === 0 ? said.dataset.none : chosen === 1 ? said.dataset.one : said.dataset.many.replace("%s", chosen);
    button.disabled = chosen === 0;
    bar.classList.toggle("mine-bar--chosen", chosen > 0);
  };

  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    show();
  });
  form.addEventListener("change", show);
  addEventListener("pageshow", show); // going back may keep what was chosen
  show();
}
