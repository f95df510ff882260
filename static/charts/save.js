// A chart as PNG, SVG or CSV: always on white and with the light colours, because it goes into a paper or a talk.

import { csvOf, download } from "./files.js";
import { optionOf } from "./option.js";

const WIDTH_PX = 960;
const HEIGHT_PX = 600;
const TITLE_PX = 40;

export function save(kind, data, look) {
  const blob = kind === "csv" ? csvOf(rowsOf(data)) : kind === "svg" ? svgOf(data, look) : pngOf(data, look);
  download(blob, `${data.name}.${kind}`);
}

function drawn(data, look, renderer) {
  const place = document.createElement("div");
  const chart = echarts.init(place, null, { renderer, width: WIDTH_PX, height: HEIGHT_PX, devicePixelRatio: 2 });
  const option = optionOf(data, { ...look, isAnimated: false, isNarrow: false });
  option.backgroundColor = "#ffffff";
  if (data.xs.length) option.title = { text: data.title, left: 8, top: 4, textStyle: { ...option.textStyle, fontSize: 18, fontWeight: 700 } };
  if (option.grid) option.grid.top += TITLE_PX;
  if (option.legend) option.legend.top = TITLE_PX;
  chart.setOption(option);
  return chart;
}

function svgOf(data, look) {
  const chart = drawn(data, look, "svg");
  const text = chart.renderToSVGString();
  chart.dispose();
  return new Blob([text], { type: "image/svg+xml" });
}

function pngOf(data, look) {
  const chart = drawn(data, look, "canvas");
  const [, encoded] = chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: "#ffffff" }).split(",");
  chart.dispose();
  return new Blob([Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

function rowsOf(data) {
  const values = data.xs.map((_, row) => data.columns.map((column) => column.values[row]));
  return [data.columns.map((column) => column.name), ...values];
}
