// Draws every <figure data-chart> of a page, keeps it up to date, reads it out by the arrow keys, and saves it.

import { optionOf, readings } from "./option.js";
import { save } from "./save.js";

const NARROW_PX = 520;
const language = document.documentElement.lang;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");
const drawn = new Map();

const NAMES = {
  ink: "--ink", rule: "--rule", grid: "--rule", ruleStrong: "--rule-strong", sheet: "--sheet",
};

/** The page's colours as they are in the theme: tokens are light-dark(), which only the browser can resolve. */
function coloursOf(scheme) {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  if (scheme) probe.style.colorScheme = scheme;
  const value = (token) => {
    probe.style.color = `var(${token})`;
    return getComputedStyle(probe).color;
  };
  const colours = Object.fromEntries(Object.entries(NAMES).map(([name, token]) => [name, value(token)]));
  colours.series = Array.from({ length: 8 }, (_, number) => value(`--chart-${number + 1}`));
  colours.font = getComputedStyle(probe).fontFamily;
  probe.remove();
  return colours;
}

const valuesOf = (figure) => figure.querySelector(`#${figure.dataset.chart}-values`)?.textContent ?? "";

class DrawnChart {
  constructor(figure) {
    this.figure = figure;
    this.plot = figure.querySelector(".chart__plot");
    this.said = figure.querySelector("[data-chart-said]");
    this.instance = echarts.init(this.plot, null, { renderer: "svg" });
    this.index = -1;
    this.text = "";
    this.update();
    figure.querySelector(".chart__table").open = false;
    figure.dataset.drawn = "";
    new ResizeObserver(() => this.resize()).observe(this.plot);
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.plot.addEventListener("blur", () => this.instance.dispatchAction({ type: "hideTip" }));
    for (const button of figure.querySelectorAll("[data-chart-save]")) {
      button.addEventListener("click", () =>
        save(button.dataset.chartSave, this.data, { colours: coloursOf("light"), language }),
      );
    }
  }

  update() {
    const text = valuesOf(this.figure);
    if (!text || text === this.text) return;
    this.text = text;
    this.data = JSON.parse(text);
    this.draw();
  }

  draw() {
    const isNarrow = this.plot.clientWidth < NARROW_PX;
    this.isNarrow = isNarrow;
    const option = optionOf(this.data, { colours: coloursOf(), language, isAnimated: !stillness.matches, isNarrow });
    this.instance.setOption(option, this.wasEmpty ? { notMerge: true } : { replaceMerge: ["series"] });
    this.wasEmpty = this.data.xs.length === 0;
  }

  resize() {
    this.instance.resize();
    if (this.isNarrow !== this.plot.clientWidth < NARROW_PX) this.draw();
  }

  step(event) {
    const last = this.data.xs.length - 1;
    const to = { ArrowRight: this.index + 1, ArrowLeft: this.index - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.instance.dispatchAction({ type: "hideTip" });
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.index = Math.min(Math.max(to, 0), last);
    const shownAt = this.instance.getModel().getSeries().find((series) => !series.get("silent"))?.seriesIndex ?? 0;
    this.instance.dispatchAction({ type: "showTip", seriesIndex: shownAt, dataIndex: this.index });
    this.said.textContent = readings(this.data, this.index, language).join(", ");
  }
}

export function drawCharts(root = document) {
  for (const figure of root.querySelectorAll("[data-chart]")) {
    if (!drawn.has(figure)) drawn.set(figure, new DrawnChart(figure));
    else drawn.get(figure).update();
  }
  for (const figure of drawn.keys()) {
    if (figure.isConnected) continue;
    drawn.get(figure).instance.dispose();
    drawn.delete(figure);
  }
}

const redraw = () => drawn.forEach((chart) => chart.draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
document.addEventListener("htmx:afterSettle", () => drawCharts());
document.addEventListener("htmx:oobAfterSwap", () => drawCharts());
document.fonts.ready.then(redraw);
drawCharts();
