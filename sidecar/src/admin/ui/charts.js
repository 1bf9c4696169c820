// Small charts of the last ten minutes, kept in this page.

import { byId, element, mark, say, shape } from "./dom.js";
import * as units from "./units.js";

/** Seconds shown: from the first to ten minutes. */
const LEAST = 60;
const MOST = 600;
const WIDTH = 600;
const HEIGHT = 100;
/** Without a value for so many seconds a line is broken. */
const GAP = 3.5;

const stored = (snapshot) => snapshot.total.stored_bytes;

// Title, unit of the numbers, and of each line: its name and value. `top`: the scale's fixed end.
const CHARTS = [
  { title: "Requests/s", unit: units.rate, lines: [["", (s) => s.lately.requests]] },
  { title: "Hit ratio", unit: units.percent, top: () => 1, lines: [["", (s) => s.lately.hit_ratio]] },
  {
    title: "Latency",
    unit: units.seconds,
    lines: [["p50", (s) => s.lately.p50], ["p99", (s) => s.lately.p99]],
  },
  { title: "Origin requests/s", unit: units.rate, lines: [["", (s) => s.lately.origin]] },
  { title: "Errors/s", unit: units.rate, lines: [["", (s) => s.lately.errors]] },
  {
    title: "Stored",
    unit: units.bytes,
    top: (s) => s.total.capacity_bytes,
    note: (s) => `of ${units.bytes(s.total.capacity_bytes)}, ${units.count(s.total.stored)} keys; ` +
      `processes use ${units.bytes(s.total.resident_bytes)}`,
    lines: [["", stored]],
  },
];

const history = CHARTS.map((chart) => chart.lines.map(() => []));
const parts = [];

function make(chart) {
  const values = chart.lines.map(([name]) => {
    const value = element("span", { class: "value" }, "–");
    const label = name ? element("span", { class: `key ${name}` }, name) : null;
    return { value, all: element("span", {}, label, value) };
  });
  const lines = chart.lines.map(([name]) => shape("path", { class: `curve ${name}`, d: "" }));
  const drawing = shape("svg", {
    viewBox: `0 -4 ${WIDTH} ${HEIGHT + 8}`, preserveAspectRatio: "none", "aria-hidden": "true",
  }, shape("path", { class: "base", d: `M0 ${HEIGHT}H${WIDTH}` }), ...lines);
  const note = element("p", { class: "note" }, "");
  const panel = element("div", { class: "chart" },
    element("h3", {}, chart.title),
    element("p", { class: values.length > 1 ? "values two" : "values" }, ...values.map((one) => one.all)),
    drawing, note);
  byId("charts").append(panel);
  return { values, lines, note };
}

let opened = null;

/** Adds a snapshot, taken at `now` in seconds, and draws all. */
export function draw(snapshot, now) {
  if (parts.length === 0) parts.push(...CHARTS.map(make));
  opened ??= now;
  const shown = Math.min(Math.max(now - opened, LEAST), MOST);
  CHARTS.forEach((chart, index) => {
    const lists = history[index];
    chart.lines.forEach(([, value], line) => {
      const list = lists[line];
      list.push([now, value(snapshot) ?? null]);
      while (list.length > 0 && list[0][0] < now - MOST) list.shift();
    });
    const all = lists.flat().map(([, value]) => value).filter((value) => value !== null);
    const most = all.length > 0 ? Math.max(...all) : null;
    const top = (chart.top ? chart.top(snapshot) : most) || 1;
    const part = parts[index];
    lists.forEach((list, line) => {
      say(part.values[line].value, chart.unit(list[list.length - 1][1]));
      mark(part.lines[line], "d", path(list, now, shown, top));
    });
    const note = chart.note ? chart.note(snapshot) : `most in ${units.span(shown)}: ${chart.unit(most)}`;
    say(part.note, note);
  });
}

function path(list, now, shown, top) {
  let text = "";
  let before = -Infinity;
  for (const [time, value] of list) {
    if (value === null) continue;
    const x = WIDTH * (1 - (now - time) / shown);
    const y = HEIGHT * (1 - Math.min(value / top, 1));
    const at = `${x.toFixed(1)} ${y.toFixed(1)}`;
    // A point alone is drawn, too.
    text += time - before > GAP ? `M${at}h0.1` : `L${at}`;
    before = time;
  }
  return text;
}
