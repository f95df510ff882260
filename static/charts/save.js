// A chart as PNG, SVG or CSV: always on white and with the light colours, because it goes into a paper or a talk.

import { optionOf } from "./option.js";

const WIDTH_PX = 960;
const HEIGHT_PX = 600;
const TITLE_PX = 40;

export function save(kind, data, look) {
  const blob = kind === "csv" ? csvOf(data) : kind === "svg" ? svgOf(data, look) : pngOf(data, look);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${data.name}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
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

function csvOf(data) {
  const rows = [data.columns.map((column) => column.name)];
  for (let row = 0; row < data.xs.length; row++) rows.push(data.columns.map((column) => column.values[row]));
  const text = rows.map((cells) => cells.map(cell).join(",")).join("\r\n");
  return new Blob([`\ufeff${text}\r\n`], { type: "text/csv;charset=utf-8" });
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const harmless = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value; // a spreadsheet must not take it for a formula
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
