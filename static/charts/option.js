// From a chart's data (apps/common/charts.py) to what ECharts draws. Pure: colours and words come in.

const SIGNS = ["circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "emptyCircle"];
const STROKES = ["solid", "dashed", "dotted", [10, 3, 2, 3]];
const FEW = 24; // with more values than that, signs on the line hide it

export function formatter(digits, language) {
  const usual = new Intl.NumberFormat(language, { maximumFractionDigits: digits });
  const tiny = new Intl.NumberFormat(language, { notation: "scientific", maximumFractionDigits: 2 });
  return (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (typeof value === "string") return value;
    return value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits ? tiny.format(value) : usual.format(value);
  };
}

/** What is at one x, as lines of text: for the pointer's sheet and for the voice. */
export function readings(data, index, language) {
  const x = formatter(data.x.digits, language);
  const y = formatter(data.y.digits, language);
  const note = data.notes[index] ? ` · ${data.notesName ? `${data.notesName}: ` : ""}${data.notes[index]}` : "";
  const lines = [`${data.x.name}: ${x(data.xs[index])}${note}`];
  for (const series of data.series) {
    const value = series.values[index];
    if (series.look === "ideal" || value === null || value === undefined) continue;
    const range =
      series.low.length && series.low[index] !== null ? ` [${y(series.low[index])} … ${y(series.high[index])}]` : "";
    lines.push(`${series.name}: ${y(value)}${range}`);
  }
  return lines;
}

export function optionOf(data, { colours, language, isAnimated, isNarrow }) {
  if (data.xs.length === 0) {
    const textStyle = { color: colours.ink, fontFamily: colours.font, fontSize: 15, fontWeight: 400 };
    return { title: { text: data.empty, left: "center", top: "middle", textStyle }, backgroundColor: "transparent" };
  }
  const isBars = data.series.some((series) => series.look === "bar") || typeof data.xs[0] === "string";
  const shown = data.series.filter((series) => series.look !== "ideal");
  const text = { color: colours.ink, fontFamily: colours.font, fontSize: 14 };
  const axisLine = { lineStyle: { color: colours.rule } };
  const split = { lineStyle: { color: colours.grid } };
  const marks = [];
  let place = 0;
  for (const series of data.series) {
    if (series.look === "ideal") marks.push(idealOf(series, data, colours));
    else marks.push(...marksOf(series, data, { colours, place: place++, isBars }));
  }
  const legend = shown.map((series) => series.name).concat(
    data.series.filter((series) => series.look === "ideal").map((series) => series.name),
  );
  // A scrolling legend takes one row, whatever it holds.
  const lines = Math.ceil((legend.join("").length + 8 * legend.length) / (isNarrow ? 34 : 64));
  const rows = lines > 3 ? 1 : lines;
  const hasLegend = legend.length > 1;
  return {
    animation: isAnimated,
    animationDuration: 250,
    backgroundColor: "transparent",
    textStyle: text,
    color: colours.series,
    aria: { enabled: false }, // the figure, the table and the arrow keys say it better
    grid: { left: 8, right: 20, top: 34 + (hasLegend ? 26 * rows : 0), bottom: 28, containLabel: true },
    legend: hasLegend
      ? { data: legend, top: 0, left: 0, type: lines > 3 ? "scroll" : "plain", pageTextStyle: text, pageIconColor: colours.ink, pageIconInactiveColor: colours.rule, itemWidth: 34, textStyle: text,
          inactiveColor: colours.rule, lineStyle: { width: 2.5 } }
      : undefined,
    tooltip: {
      trigger: "axis",
      renderMode: "richText", // an HTML sheet would need inline styles, which the CSP refuses
      confine: true,
      backgroundColor: colours.sheet,
      borderColor: colours.ruleStrong,
      textStyle: text,
      axisPointer: { type: isBars ? "shadow" : "line", lineStyle: { color: colours.ruleStrong } },
      formatter: (points) => readings(data, points[0]?.dataIndex ?? 0, language).join("\n"),
    },
    xAxis: {
      type: isBars ? "category" : data.x.log ? "log" : "value",
      data: isBars ? data.xs.map((x) => formatter(data.x.digits, language)(x)) : undefined,
      min: data.x.low ?? (isBars ? undefined : beginOf(data)),
      max: data.x.high ?? (isBars ? undefined : "dataMax"),
      name: data.x.name,
      nameLocation: "middle",
      nameGap: 28,
      nameTextStyle: text,
      minInterval: data.x.digits === 0 ? 1 : undefined,
      axisLabel: { ...text, hideOverlap: true, formatter: isBars ? undefined : formatter(data.x.digits, language) },
      axisLine,
      splitLine: { show: false },
    },
    yAxis: {
      type: data.y.log ? "log" : "value",
      min: data.y.low ?? undefined,
      max: data.y.high ?? undefined,
      scale: data.y.low === null && !isBars,
      name: data.y.name,
      nameLocation: "end", // above the axis: turned letters are hard to read
      nameGap: 12,
      nameTextStyle: { ...text, align: "left", padding: [0, 0, 0, -28] },
      axisLabel: { ...text, formatter: formatter(data.y.digits, language) },
      axisLine,
      splitLine: split,
    },
    series: marks,
  };
}

/** A single value needs room beside it: an axis from 1 to 1 has no length. */
const beginOf = ({ xs }) => (xs.length === 1 && typeof xs[0] === "number" ? Math.min(0, xs[0] - 1) : "dataMin");

function points(values, data, isBars) {
  return isBars ? values.map((value) => value ?? "-") : values.map((value, index) => [data.xs[index], value ?? "-"]);
}

function idealOf(series, data, colours) {
  return {
    name: series.name,
    type: "line",
    data: points(series.values, data, typeof data.xs[0] === "string"),
    symbol: "none",
    silent: true,
    lineStyle: { color: colours.ruleStrong, width: 1.5, type: [4, 4] },
    itemStyle: { color: colours.ruleStrong },
    z: 1,
  };
}

function marksOf(series, data, { colours, place, isBars }) {
  const colour = colours.series[place % colours.series.length];
  const main = {
    name: series.name,
    type: series.look === "bar" ? "bar" : series.look === "dots" ? "scatter" : "line",
    data: points(series.values, data, isBars),
    itemStyle: { color: colour, borderColor: colours.sheet, borderWidth: series.look === "line" || series.look === "dashed" ? 0 : 1.5 },
    lineStyle: { color: colour, width: 2.5, type: series.look === "dashed" ? "dashed" : STROKES[Math.floor(place / 2) % 4] },
    symbol: SIGNS[place % SIGNS.length],
    symbolSize: series.look === "dots" ? 12 : 8,
    showSymbol: data.xs.length <= FEW,
    connectNulls: false,
    emphasis: { disabled: true },
    z: series.look === "dots" ? 4 : 3,
  };
  return series.low.length ? [main, ...bandOf(series, data, colour, place, isBars)] : [main];
}

// A band is two stacked areas, the lower one unseen. They bear the line's name, so that the legend switches all of it.
function bandOf(series, data, colour, place, isBars) {
  const span = series.low.map((low, index) => (low === null || series.high[index] === null ? null : series.high[index] - low));
  const both = {
    type: "line", stack: `band-${place}`, stackStrategy: "all", symbol: "none", silent: true, lineStyle: { opacity: 0 },
    tooltip: { show: false }, emphasis: { disabled: true }, z: 2,
  };
  return [
    { ...both, name: series.name, data: points(series.low, data, isBars) },
    { ...both, name: series.name, itemStyle: { color: colour }, data: points(span, data, isBars), areaStyle: { color: colour, opacity: 0.22 } },
  ];
}
