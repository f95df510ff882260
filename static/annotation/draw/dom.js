// Small things the page's parts share when they build elements.

const SVG = "http://www.w3.org/2000/svg";

/** element("li", {class: "row", text: "…", data: {key: 1}, aria-pressed: "true"}, child, child…) */
export function element(name, { text, data, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  for (const [key, value] of Object.entries(data ?? {})) made.dataset[key] = value;
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter(Boolean));
  return made;
}

/** A dot in the label's colour; an SVG attribute, because the name beside it carries the meaning. */
export function swatch(colour) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  const circle = document.createElementNS(SVG, "circle");
  for (const [key, value] of [["cx", 5], ["cy", 5], ["r", 4.5], ["fill", colour]]) circle.setAttribute(key, value);
  svg.append(circle);
  return svg;
}

/** The label's name as the field writes it: a scientific one in italics. */
export function labelName(label) {
  const isScientific = label.rank !== "other" && label.name !== label.vernacular && label.name !== label.code;
  return element(isScientific ? "em" : "span", { class: isScientific ? "taxon" : undefined, text: label.name });
}

export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
