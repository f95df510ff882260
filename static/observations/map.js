/** The map page: draws what /map/data/ says of the window in view, and keeps list, count and address in step. */
import { createMap } from "./map-base.js";
import { blurredCell, gathered, inTheSamePlace, windowOf } from "./map-geometry.js";

const L = window.L;
const element = document.getElementById("map");
const form = document.getElementById("map-filters");
const list = document.getElementById("map-list");
const said = document.getElementById("map-said");
const error = document.getElementById("map-error");
const words = element.dataset;
const numbers = new Intl.NumberFormat(document.documentElement.lang, { notation: "compact", maximumFractionDigits: 1 });

const map = createMap(element, { keyboard: true });
const shapes = L.layerGroup().addTo(map);
const markers = L.layerGroup().addTo(map);
const byPoint = new Map();
let request = null;
let timer = 0;

function parameters() {
  const values = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...values]) if (!value) values.delete(name);
  values.set("bbox", windowOf(map.getBounds()).join(","));
  return values;
}

async function load() {
  request?.abort();
  request = new AbortController();
  const values = parameters();
  const query = new URLSearchParams(values);
  query.set("zoom", map.getZoom());
  element.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(`${words.url}?${query}`, {
      signal: request.signal,
      headers: { Accept: "application/json" },
    });
    const data = await response.json();
    if (!response.ok) throw new Error(data.detail);
    draw(data);
    error.hidden = true;
    history.replaceState(null, "", `?${values}`);
  } catch (reason) {
    if (reason.name === "AbortError") return;
    error.textContent = reason instanceof SyntaxError || reason instanceof TypeError ? words.failed : reason.message;
    error.hidden = false;
  }
  element.removeAttribute("aria-busy");
}

function loadSoon(delay = 120) {
  clearTimeout(timer);
  timer = setTimeout(load, delay);
}

function draw(data) {
  markers.clearLayers();
  shapes.clearLayers();
  byPoint.clear();
  const project = ({ lon, lat }) => map.latLngToLayerPoint([lat, lon]);
  for (const cluster of gathered(data.clusters, project)) drawCluster(cluster);
  for (const points of inTheSamePlace(data.points)) drawPoints(points, data.urls);
  said.textContent = data.said;
  list.innerHTML = data.list; // rendered and escaped by the server
}

function drawCluster(cluster) {
  const size = Math.min(4, Math.floor(Math.log10(cluster.count)));
  const icon = L.divIcon({
    className: `map-cluster map-cluster--${size}`,
    html: `<span>${numbers.format(cluster.count)}</span>`,
    iconSize: [30 + 8 * size, 30 + 8 * size],
  });
  // The list is the way for the keyboard: a hundred stops of the tab key would be none.
  L.marker([cluster.lat, cluster.lon], { icon, keyboard: false })
    .on("click", () => goCloser(cluster.lat, cluster.lon, cluster.cell))
    .addTo(markers);
}

/** To the middle of a cluster, so near that its cell fills the map, and at least two steps nearer. */
function goCloser(lat, lon, cell) {
  const fitting = map.getBoundsZoom(boundsOf(cell));
  map.setView([lat, lon], Math.min(map.getMaxZoom(), Math.max(fitting, map.getZoom() + 2)));
}

function drawPoints(points, urls) {
  const [first] = points;
  const kind = first.blurred ? "map-point map-point--blurred" : "map-point";
  const icon = L.divIcon({
    className: points.length > 1 ? `${kind} map-point--many` : kind,
    html: points.length > 1 ? `<span>${numbers.format(points.length)}</span>` : "",
    iconSize: points.length > 1 ? [26, 26] : [18, 18],
  });
  const marker = L.marker([first.lat, first.lon], { icon, keyboard: false, riseOnHover: true })
    .bindPopup(() => popup(points, urls), { minWidth: 220, maxWidth: 260 })
    .addTo(markers);
  for (const point of points) byPoint.set(point.id, marker);
  if (first.blurred && map.getZoom() >= 7) {
    L.rectangle(boundsOf(blurredCell(first)), { className: "map-blur", interactive: false }).addTo(shapes);
  }
}

function boundsOf([west, south, east, north]) {
  return L.latLngBounds([south, west], [north, east]);
}

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
}

function popup(points, urls) {
  const box = node("div", { className: "map-popup" });
  for (const point of points.slice(0, 6)) {
    const link = node("a", { href: urls.observation.replace("{id}", point.id), className: "map-popup__item" });
    if (point.cover) {
      link.append(node("img", { src: urls.thumbnail.replace("{id}", point.cover), alt: "", width: 72, height: 72 }));
    }
    link.append(
      node(
        "span",
        {},
        node("strong", { textContent: point.title }),
        node("span", { className: "map-popup__meta", textContent: [point.date, point.survey].filter(Boolean).join(" · ") }),
      ),
    );
    box.append(link);
  }
  if (points[0].blurred) box.append(node("p", { className: "map-popup__meta", textContent: words.blurred }));
  if (points.length > 6) {
    const { lon, lat } = points[0];
    const query = parameters();
    query.set("bbox", [lon - 1e-5, lat - 1e-5, lon + 1e-5, lat + 1e-5].map((n) => n.toFixed(6)).join(","));
    const all = node("a", { href: `${words.gallery}?${query}`, textContent: `${words.allHere} (${points.length})` });
    box.append(node("p", {}, all));
  }
  return box;
}

// --- List and map point at each other ----------------------------------------------------------------------
list.addEventListener("click", (event) => {
  const place = event.target.closest("[data-window]");
  if (!place || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const [lat, lon] = place.dataset.centre.split(",").map(Number);
  goCloser(lat, lon, place.dataset.window.split(",").map(Number));
});
for (const [happening, isOn] of [
  ["mouseover", true],
  ["focusin", true],
  ["mouseout", false],
  ["focusout", false],
]) {
  list.addEventListener(happening, (event) => {
    const marker = byPoint.get(event.target.closest("[data-point]")?.dataset.point);
    marker?.getElement()?.classList.toggle("is-pointed-at", isOn);
    marker?.setZIndexOffset(isOn ? 1000 : 0);
  });
}

// --- Filters ------------------------------------------------------------------------------------------------
form.addEventListener("change", () => loadSoon());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  loadSoon(0);
});

let isMadeRoomForPopup = false; // moving for a popup's sake must not take the popup away
map.on("autopanstart", () => {
  isMadeRoomForPopup = true;
});
map.on("moveend", () => {
  if (!isMadeRoomForPopup) loadSoon();
  isMadeRoomForPopup = false;
});
map.fitBounds(boundsOf(words.view.split(",").map(Number)), { padding: [8, 8] });
