// Choosing among things in rows, as file managers do it. Pure: indices in, indices out.

// The index an arrow key leads to from `at`, in a grid of `count` things with `columns` in a row; `at` at the borders.
export function step(key, at, count, columns) {
  const to = {
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
    ArrowUp: at - columns,
    ArrowDown: at + columns,
    Home: 0,
    End: count - 1,
  }[key];
  return to === undefined || to < 0 || to >= count ? at : to;
}

// What a range from the anchor to `to` chooses: everything between them is as the anchor is, the rest stays.
export function range(chosen, anchor, to) {
  const state = chosen[anchor];
  const [from, until] = anchor < to ? [anchor, to] : [to, anchor];
  return chosen.map((is, index) => (index >= from && index <= until ? state : is));
}

// How many stand in the first row, from the tops of all of them.
export function columnsOf(tops) {
  const next = tops.findIndex((top) => top > tops[0] + 1);
  return next < 0 ? Math.max(1, tops.length) : next;
}
