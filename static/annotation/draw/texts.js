// The page's texts, from Django's JavaScript catalogue; English where it is missing (the pure tests load none).

export function gettext(text) {
  return globalThis.django?.gettext?.(text) ?? text;
}

export function ngettext(one, many, count) {
  return globalThis.django?.ngettext?.(one, many, count) ?? (count === 1 ? one : many);
}

/** "%(n)s boxes" with {n: 3} gives "3 boxes". */
export function fill(text, values) {
  return text.replace(/%\((\w+)\)s/g, (whole, name) => values[name] ?? whole);
}

export function language() {
  return document.documentElement.lang || "en";
}

/** A share as people read it, with a narrow space that does not break: "87 %". */
export function percent(share) {
  return `${Math.round(share * 100)}\u202f%`;
}

/** 75 gives "1:15". */
export function minutes(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const hours = Math.floor(whole / 3600);
  const rest = `${Math.floor((whole % 3600) / 60)}`.padStart(hours ? 2 : 1, "0");
  return `${hours ? `${hours}:` : ""}${rest}:${String(whole % 60).padStart(2, "0")}`;
}

export function timeOf(moment) {
  const date = new Date(moment);
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(language(), isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

/** A few decimals, in the reader's way. */
export function decimal(number, digits = 2) {
  return number.toLocaleString(language(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
