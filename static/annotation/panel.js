// The experts' boxes on the picture of a photo's page, instead of the model's: they are what counts now.
const plate = document.querySelector("[data-plate]");
const stage = plate?.querySelector("[data-stage]");
const template = document.querySelector("[data-answer-marks]");

if (stage && template) {
  stage.append(template.content.cloneNode(true));
  const svg = stage.querySelector(".plate__boxes--answer");
  const group = svg.firstElementChild;
  const model = plate.querySelector("[data-marks]");
  const list = document.querySelector("[data-animals]");

  // The letters keep their size on the screen at any zoom, as the model's do.
  if (model) {
    const follow = () => group.setAttribute("font-size", model.getAttribute("font-size"));
    new MutationObserver(follow).observe(model, { attributeFilter: ["font-size"] });
    follow();
  }

  const choice = document.querySelector("[data-answer-choice]").content.firstElementChild.cloneNode(true);
  const show = (whose) => {
    plate.classList.toggle("plate--answer", whose === "experts");
    for (const button of choice.children) button.setAttribute("aria-pressed", String(button.dataset.answer === whose));
  };
  if (model) {
    plate.querySelector(".plate__tools").append(choice);
    choice.addEventListener("click", (event) => {
      const button = event.target.closest("[data-answer]");
      if (button) show(button.dataset.answer);
    });
    // The list is the model's: who goes to an animal in it sees the box it names.
    for (const name of ["click", "keydown"]) {
      list?.addEventListener(name, (event) => {
        if (event.target.closest("[data-number]")) show("model");
      });
    }
  }
  show(/^#(?:box|mark)-\d+$/.test(location.hash) ? "model" : "experts");

  const point = (event) => {
    const mark = event.type === "pointerover" ? event.target.closest(".mark") : null;
    for (const other of group.querySelectorAll(".is-pointed")) other.classList.toggle("is-pointed", other === mark);
    mark?.classList.add("is-pointed");
  };
  svg.addEventListener("pointerover", point);
  svg.addEventListener("pointerleave", point);
}
