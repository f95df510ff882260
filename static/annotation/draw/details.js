// Why this photo is here, and what people said about it.
import { element } from "./dom.js";
import { decimal, fill, gettext, ngettext, timeOf } from "./texts.js";

const ROWS = 60;

export function showWhy(details, why, { onBox }) {
  details.hidden = !why;
  if (!why) return;
  const parts = [element("p", { text: why.arm === "control"
    ? gettext("It was drawn at random: such photos show whether choosing by uncertainty beats chance.")
    : gettext("It is one of those the detector is least sure of.") })];
  if (why.aggregate_text) parts.push(element("p", { class: "muted", text: why.aggregate_text }));
  parts.push(facts(why));
  if (why.boxes?.length) parts.push(table(why.boxes, onBox));
  details.querySelector("[data-why-body]").replaceChildren(...parts);
}

function facts(why) {
  const rows = [];
  const add = (name, value) => rows.push(element("dt", { text: name }), element("dd", { class: "num", text: value }));
  if (Number.isFinite(why.score)) add(gettext("Score"), decimal(why.score, 3));
  if (why.model_version) add(gettext("Detector"), why.model_version);
  if (why.rank_before) add(gettext("Rank before the last new detector"), String(why.rank_before));
  if (why.rank_after) add(gettext("Rank after it"), String(why.rank_after));
  if (why.comments) add(gettext("Boxes with comments"), String(why.comments));
  return element("dl", { class: "facts" }, ...rows);
}

function table(boxes, onBox) {
  const sorted = [...boxes].sort((a, b) => b.u - a.u);
  const head = ["#", "P1", "P2", gettext("Margin"), gettext("Doubt")].map((text, index) =>
    element("th", { scope: "col", class: index ? "num" : undefined, text }));
  const rows = sorted.slice(0, ROWS).map((box) => {
    const button = element("button", { type: "button", class: "link-button", text: `#${box.number}` });
    button.addEventListener("click", () => onBox(box.number));
    return element("tr", {}, element("td", {}, button), ...[box.p1, box.p2, box.margin, box.u].map((value) =>
      element("td", { class: "num", text: decimal(value) })));
  });
  const more = sorted.length - ROWS;
  return element(
    "div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": gettext("How sure the detector is of each box") },
    element("table", { class: "table" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)),
    more > 0 ? element("p", { class: "muted", text: fill(ngettext("and %(n)s more box", "and %(n)s more boxes", more), { n: more }) }) : null,
  );
}

export function showComments(details, comments, { onBox }) {
  details.hidden = !comments?.length;
  details.open = Boolean(comments?.length);
  if (!comments?.length) return;
  details.querySelector("[data-comment-count]").textContent = String(comments.length);
  details.querySelector("[data-comment-list]").replaceChildren(...comments.map((comment) => {
    let about = null;
    if (comment.box_number) {
      about = element("button", { type: "button", class: "link-button", text: `#${comment.box_number}` });
      about.addEventListener("click", () => onBox(comment.box_number));
    }
    return element(
      "li", {},
      element("p", { class: "draw-comments__head muted" }, element("span", { text: `${comment.author} · ${timeOf(comment.created_at)}` }), about),
      element("p", { class: "draw-comments__body", text: comment.body }),
    );
  }));
}

export function medianText(seconds) {
  return seconds ? fill(gettext("%(n)s s"), { n: Math.round(seconds) }) : "";
}
