/** Pure geometry of the map page: no Leaflet, no page. Degrees are WGS 84, windows are [west, south, east, north]. */

const CELL_DEGREES = 0.2; // of apps/observations/services/geoprivacy.py

/** The window of Leaflet bounds, kept on the Earth, six decimals. */
export function windowOf(bounds) {
  const keep = (value, limit) => Number(Math.max(-limit, Math.min(limit, value)).toFixed(6));
  return [keep(bounds.getWest(), 180), keep(bounds.getSouth(), 90), keep(bounds.getEast(), 180), keep(bounds.getNorth(), 90)];
}

/** The square within which a blurred place lies; the place given is its centre. */
export function blurredCell({ lon, lat }) {
  const half = CELL_DEGREES / 2;
  return [lon - half, lat - half, lon + half, lat + half];
}

/** Radius in px of a cluster's disc. */
export function radius(count) {
  return 15 + 4 * Math.min(4, Math.floor(Math.log10(count)));
}

/**
 * Clusters whose discs would touch become one, at their common mean; the larger takes the smaller in.
 * @param clusters {lon, lat, count, cell}, any order  @param project gives {x, y} in px
 */
export function gathered(clusters, project) {
  const made = [];
  for (const cluster of [...clusters].sort((a, b) => b.count - a.count)) {
    const { x, y } = project(cluster);
    const near = made.find(
      (other) => Math.hypot(other.x - x, other.y - y) < (radius(other.count) + radius(cluster.count)) * 1.15,
    );
    if (near) {
      absorb(near, cluster);
      Object.assign(near, project(near)); // it moved, and may now touch a third
    } else made.push({ ...cluster, x, y });
  }
  return made.length < clusters.length ? gathered(made, project) : made; // fewer each time, so it ends
}

function absorb(near, { lon, lat, count, cell }) {
  const total = near.count + count;
  near.lon = (near.lon * near.count + lon * count) / total;
  near.lat = (near.lat * near.count + lat * count) / total;
  near.cell = [
    Math.min(near.cell[0], cell[0]),
    Math.min(near.cell[1], cell[1]),
    Math.max(near.cell[2], cell[2]),
    Math.max(near.cell[3], cell[3]),
  ];
  near.count = total;
}

/** Points in groups of exactly one place each, in the order given. */
export function inTheSamePlace(points) {
  const groups = new Map();
  for (const point of points) {
    const key = `${point.lon},${point.lat},${point.blurred}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(point);
  }
  return [...groups.values()];
}
