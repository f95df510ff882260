/** A map beside two coordinate fields: a click sets them, typing moves the marker. The fields are the truth. */
import { createMap } from "./map-base.js";

const element = document.getElementById("place-map");
if (element) pick(element);

function pick(element) {
  const L = window.L;
  const latitude = document.getElementById("id_latitude");
  const longitude = document.getElementById("id_longitude");
  const said = document.getElementById("place-said");
  const map = createMap(element, { keyboard: true });
  map.setView([46.5, 4], 4);
  const dot = L.divIcon({ className: "place__dot", html: "<span></span>", iconSize: [26, 26] });
  let marker = null;

  function show({ move = false } = {}) {
    const at = [Number.parseFloat(latitude.value), Number.parseFloat(longitude.value)];
    const valid = Number.isFinite(at[0]) && Number.isFinite(at[1]) && Math.abs(at[0]) <= 90 && Math.abs(at[1]) <= 180;
    if (!valid) {
      marker?.remove();
      marker = null;
      return;
    }
    if (!marker) {
      marker = L.marker(at, { icon: dot, draggable: true, alt: element.dataset.marker, title: element.dataset.marker });
      marker.on("dragend", () => set(marker.getLatLng().wrap()));
      marker.addTo(map);
    }
    marker.setLatLng(at);
    if (move) map.setView(at, Math.max(map.getZoom(), 7));
  }

  function set({ lat, lng }) {
    // Five decimals are a metre: finer than a click.
    latitude.value = lat.toFixed(5);
    longitude.value = lng.toFixed(5);
    said.textContent = "";
    show();
    latitude.dispatchEvent(new Event("change", { bubbles: true }));
  }

  map.on("click", (event) => set(event.latlng.wrap()));
  for (const field of [latitude, longitude]) field.addEventListener("change", () => show());
  document.getElementById("place-none").addEventListener("click", () => {
    latitude.value = longitude.value = "";
    show();
  });
  document.getElementById("place-here").addEventListener("click", () => {
    navigator.geolocation?.getCurrentPosition(
      ({ coords }) => {
        set({ lat: coords.latitude, lng: coords.longitude });
        show({ move: true });
      },
      () => {
        said.textContent = element.dataset.failed;
      },
      { enableHighAccuracy: true, timeout: 15000 },
    );
  });
  show({ move: true });
}
