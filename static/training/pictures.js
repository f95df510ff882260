// The confusion matrix, and photos with their boxes: saved as pictures and as numbers, and the boxes as a table.

import { csvOf, download, pngOf, shape, svgOf } from "../charts/files.js";

const LINE_PX = 26;
const SHARP = 2;

async function save(kind, rows, drawing, name, scale = SHARP) {
  if (kind === "csv") download(csvOf(rows), `${name}.csv`);
  else if (kind === "svg") download(svgOf(await drawing()), `${name}.svg`);
  else download(await pngOf(await drawing(), scale), `${name}.png`);
}

// --- The matrix -------------------------------------------------------------------------------------------

const textOf = (cell) => cell.textContent.trim();
const matrixRows = (table) => [...table.rows].map((row) => [...row.cells].map(textOf));

/** As on the page, in light colours: it goes into a paper or a talk. */
function matrixDrawing(table, title) {
  const font = getComputedStyle(table).fontFamily;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `14px ${font}`;
  const rows = matrixRows(table);
  const wide = (texts) => Math.ceil(Math.max(...texts.map((text) => pen.measureText(text).width))) + 20;
  const widths = rows[0].map((_, column) => Math.max(48, wide(rows.map((row) => row[column] ?? ""))));
  const starts = widths.map((_, column) => widths.slice(0, column).reduce((sum, width) => sum + width, 8));
  const width = Math.max(widths.reduce((sum, one) => sum + one, 16), pen.measureText(title).width * 1.5);
  const height = (rows.length + 2) * LINE_PX;
  const drawing = shape("svg", { width: Math.ceil(width), height, "font-family": font, "font-size": 14, fill: "#10171a" });
  drawing.append(shape("rect", { width: "100%", height: "100%", fill: "#ffffff" }));
  drawing.append(shape("text", { x: 8, y: 26, "font-size": 18, "font-weight": 700 }, title));
  table.style.colorScheme = "light";
  for (const [row, line] of [...table.rows].entries()) {
    const y = (row + 1.5) * LINE_PX;
    for (const [column, cell] of [...line.cells].entries()) {
      const isCount = cell.tagName === "TD";
      if (isCount) {
        const fill = getComputedStyle(cell).backgroundColor;
        drawing.append(shape("rect", { x: starts[column], y, width: widths[column], height: LINE_PX, fill, stroke: "#c9cfc9" }));
      }
      const place = isCount ? { x: starts[column] + widths[column] - 8, "text-anchor": "end" } : { x: starts[column] + 4 };
      drawing.append(shape("text", { ...place, y: y + 18 }, textOf(cell)));
    }
  }
  table.style.removeProperty("color-scheme");
  return drawing;
}

// --- Photos with boxes ------------------------------------------------------------------------------------

const shownLayer = (scene) => [...scene.querySelectorAll(".scene__stage svg")].find((svg) => svg.checkVisibility());
const kindOf = (group) => group.getAttribute("class");

/** What a kind of line stands for, from the key of the page. */
function meaning(kind) {
  return document.querySelector(`.marks-key .${kind}`)?.closest("li").textContent.trim() ?? "";
}

function boxRows(scene) {
  const heads = JSON.parse(scene.closest("[data-box-heads]").dataset.boxHeads);
  const boxes = [...shownLayer(scene).querySelectorAll("g")].map((group) => {
    const [x, y, width, height] = ["x", "y", "width", "height"].map((name) =>
      Number(group.querySelector(".mark-line").getAttribute(name)),
    );
    const ends = [x, y, x + width, y + height].map((value) => Math.round(value * 10) / 10);
    return [meaning(kindOf(group)), group.querySelector("text")?.textContent ?? "", ...ends];
  });
  return [heads, ...boxes];
}

async function dataAddress(source) {
  const blob = await (await fetch(source)).blob();
  const reader = new FileReader();
  return new Promise((resolve, reject) => {
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The photo as large as the page has it, its lines as thick as they look there, the key below. */
async function sceneDrawing(scene) {
  const image = scene.querySelector("img");
  await image.decode();
  const layer = shownLayer(scene);
  const [left, top, width, height] = layer.getAttribute("viewBox").split(" ").map(Number);
  const thick = width / Math.max(image.clientWidth, 1);
  const size = image.naturalWidth / width;
  const kinds = [...new Set([...layer.querySelectorAll("g")].map(kindOf))];
  const line = height * 0.05;
  const drawing = shape("svg", {
    width: image.naturalWidth,
    height: Math.round((height + line * kinds.length) * size),
    viewBox: `${left} ${top} ${width} ${height + line * kinds.length}`,
    "font-family": getComputedStyle(scene).fontFamily,
  });
  drawing.append(shape("rect", { x: left, y: top, width: "100%", height: "100%", fill: "#0b1113" }));
  drawing.append(shape("image", { x: left, y: top, width, height, href: await dataAddress(image.currentSrc) }));
  const outlined = (box) => {
    const { stroke, strokeWidth, strokeDasharray } = getComputedStyle(box);
    const place = Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, box.getAttribute(name)]));
    const dashes = strokeDasharray === "none" ? "none" : strokeDasharray.split(",").map((dash) => parseFloat(dash) * thick).join(" ");
    return shape("rect", { ...place, fill: "none", stroke, "stroke-width": parseFloat(strokeWidth) * thick, "stroke-dasharray": dashes });
  };
  for (const box of layer.querySelectorAll("rect, text")) {
    if (box.tagName === "rect") drawing.append(outlined(box));
    else {
      const place = Object.fromEntries(["x", "y", "font-size"].map((name) => [name, box.getAttribute(name)]));
      const edge = { stroke: "#070b0c", "stroke-width": Number(place["font-size"]) * 0.2, "paint-order": "stroke" };
      drawing.append(shape("text", { ...place, ...edge, fill: "#ffffff", "font-weight": 700 }, box.textContent));
    }
  }
  for (const [row, kind] of kinds.entries()) {
    const y = top + height + line * row;
    const sample = outlined(layer.querySelector(`.${kind} .mark-line`));
    for (const [name, value] of Object.entries({ x: left + line / 3, y: y + line / 5, width: line * 1.2, height: line * 0.6 })) {
      sample.setAttribute(name, value);
    }
    drawing.append(sample, shape("text", { x: left + line * 1.9, y: y + line * 0.7, "font-size": line * 0.6, fill: "#ffffff" }, meaning(kind)));
  }
  return drawing;
}

function fillTable(table, [heads, ...rows]) {
  const line = (cells, tag) => {
    const row = document.createElement("tr");
    for (const value of cells) {
      const cell = document.createElement(tag);
      if (tag === "th") cell.scope = "col";
      cell.textContent = typeof value === "number" ? value.toLocaleString(document.documentElement.lang) : value;
      row.append(cell);
    }
    return row;
  };
  table.replaceChildren(line(heads, "th"), ...rows.map((row) => line(row, "td")));
}

// ----------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-chart-save]");
  const matrix = button?.closest("[data-matrix]")?.querySelector("table");
  const scene = button?.closest("[data-scene]");
  const kind = button?.dataset.chartSave;
  if (matrix) save(kind, matrixRows(matrix), () => matrixDrawing(matrix, document.querySelector("h1").textContent.trim()), "confusion-matrix");
  else if (scene) save(kind, boxRows(scene), () => sceneDrawing(scene), `difference-${scene.dataset.scene}`, 1);
});

const refill = (details) => fillTable(details.querySelector("table"), boxRows(details.closest("[data-scene]")));
document.addEventListener("toggle", ({ target }) => target.matches("[data-boxes][open]") && refill(target), true);
document.addEventListener("change", ({ target }) => {
  if (target.name === "layer") document.querySelectorAll("[data-boxes][open]").forEach(refill);
});
