// The carousel's buttons. The list itself scrolls and snaps without any script.
const carousel = document.querySelector("[data-carousel]");
const list = carousel.querySelector("[data-carousel-list]");
const buttons = carousel.querySelectorAll("[data-carousel-step]");

function update() {
  const end = list.scrollWidth - list.clientWidth;
  for (const button of buttons) {
    const isBack = button.dataset.carouselStep === "-1";
    button.disabled = isBack ? list.scrollLeft <= 4 : list.scrollLeft >= end - 4;
    button.hidden = end <= 4;
  }
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    const width = list.firstElementChild.getBoundingClientRect().width;
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    list.scrollBy({ left: width * Number(button.dataset.carouselStep), behavior: isStill ? "instant" : "smooth" });
  });
}
list.addEventListener("scroll", update, { passive: true });
new ResizeObserver(update).observe(list);
