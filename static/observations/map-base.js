/**
 * The world every map of the site stands on: a shipped outline (Natural Earth) with a graticule, so that maps work
 * without a tile server, and raster tiles above it when the site has configured one.
 *
 * Needs vendor/leaflet/leaflet.js (the global `L`) and map-base.css. The element carries
 *   data-world="URL of common/world.json"  data-tiles="URL template or empty"  data-attribution="text"
 *   data-zoom-in, data-zoom-out            words for the two buttons
 */
const L = window.L;

const STEPS = [
  [2, 30],
  [4, 10],
  [5, 5],
  [7, 2],
  [8, 1],
  [10, 0.5],
  [11, 0.2],
  [Infinity, 0.1],
];

/** @returns {L.Map} with its view not set yet */
export function createMap(element, options = {}) {
  const reduced = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const map = L.map(element, {
    zoomControl: false,
    minZoom: 1,
    maxZoom: element.dataset.tiles ? 18 : 14,
    maxBounds: [
      [-85, -190],
      [85, 190],
    ],
    maxBoundsViscosity: 0.9,
    zoomAnimation: !reduced,
    fadeAnimation: !reduced,
    inertia: !reduced,
    ...options,
  });
  L.control
    .zoom({ zoomInTitle: element.dataset.zoomIn ?? "+", zoomOutTitle: element.dataset.zoomOut ?? "−" })
    .addTo(map);
  map.attributionControl.setPrefix("");
  map.createPane("world").style.zIndex = 150;
  map.createPane("graticule").style.zIndex = 160;
  addOutline(map, element.dataset.world);
  if (element.dataset.tiles) {
    L.tileLayer(element.dataset.tiles, {
      maxZoom: 18,
      attribution: escapeText(element.dataset.attribution ?? ""),
      // The site sends no referrer elsewhere, but tile servers ask whose map it is; they learn the site, not the page.
      referrerPolicy: "strict-origin-when-cross-origin",
    }).addTo(map);
  } else {
    map.attributionControl.addAttribution("Natural Earth");
  }
  addGraticule(map);
  return map;
}

function escapeText(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span.innerHTML;
}

async function addOutline(map, url) {
  if (!url) return;
  const response = await fetch(url);
  if (!response.ok) return; // the graticule and the points still stand
  const world = await response.json();
  const renderer = L.svg({ pane: "world", padding: 0.5 });
  L.geoJSON(world, {
    renderer,
    pane: "world",
    interactive: false,
    smoothFactor: 0.7,
    // Colours come from map-base.css, which follows the theme; Leaflet's own are attributes and give way.
    style: (feature) => ({ className: `map-${feature.properties.kind}` }),
  }).addTo(map);
}

function addGraticule(map) {
  const renderer = L.svg({ pane: "graticule", padding: 0.5 });
  const group = L.layerGroup().addTo(map);
  const draw = () => {
    const step = STEPS.find(([zoom]) => map.getZoom() <= zoom)[1];
    const view = map.getBounds().pad(0.3);
    const from = (value, limit) => Math.max(-limit, Math.ceil(value / step) * step);
    const lines = [];
    for (let lon = from(view.getWest(), 180); lon <= Math.min(180, view.getEast()); lon += step) {
      lines.push([
        [-85, lon],
        [85, lon],
      ]);
    }
    for (let lat = from(view.getSouth(), 80); lat <= Math.min(80, view.getNorth()); lat += step) {
      lines.push([
        [lat, -180],
        [lat, 180],
      ]);
    }
    group.clearLayers();
    L.polyline(lines, { renderer, pane: "graticule", interactive: false, className: "map-graticule" }).addTo(group);
  };
  map.on("moveend", draw);
  map.whenReady(draw);
}
