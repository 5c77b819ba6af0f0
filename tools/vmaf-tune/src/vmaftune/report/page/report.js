"use strict";
/* State, filters, words and tables of the report page. Every figure is built from the one JSON block `data`. */

const data = JSON.parse(document.getElementById("data").textContent);
const cells = data.cells;
const byId = (id) => document.getElementById(id);
const range = (n) => Array.from({ length: n }, (_, i) => i);

/* Okabe and Ito's palette, told apart by colour-blind readers; marker and dash say the same a second time. */
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00"];
const ON_DARK = { "#0072B2": "#3F97DB", "#56B4E9": "#A6DCFF", "#000000": "#E8EAED", "#009E73": "#1DB88B" };
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross", "pentagon", "hexagram"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

const encoders = [...new Set(data.curves.map((c) => c.encoder))];
const curvesOf = (encoder) => range(data.curves.length).filter((c) => data.curves[c].encoder === encoder);
const label = (c) => data.curves[c].label;
const cellsAt = new Map();
cells.s.forEach((s, i) => {
  const at = s + ":" + cells.c[i];
  cellsAt.set(at, [...(cellsAt.get(at) || []), i]);
});
/* What tells a cell from the others of its curve: the quality value, or the cell's name where nobody knows one. */
const setting = (i) => (cells.q[i] === null ? cells.id[i] : `${data.curves[cells.c[i]].knob} ${cells.q[i]}`);
const cellsOf = (source, curve) => cellsAt.get(source + ":" + curve) || [];

const chosen = { sources: new Set(range(data.sources.length)), curves: new Set(range(data.curves.length)) };
const sources = () => range(data.sources.length).filter((s) => chosen.sources.has(s));
const curves = () => range(data.curves.length).filter((c) => chosen.curves.has(c));
/* Curves for figures that a curve per preset would overcrowd: the usual ones of each encoder unless asked otherwise. */
const fewCurves = (all) => (all ? curves() : encoders.flatMap(usualOf));
function usualOf(encoder) {
  const mine = curvesOf(encoder).filter((c) => chosen.curves.has(c));
  const usual = mine.filter((c) => data.defaults.includes(c)), middle = Math.floor(mine.length / 2);
  return usual.length ? usual : mine.slice(middle, middle + 1);
}
/* What one types to encode a whole file with a quality value; null where nobody knows. */
function filmCommand(c, value) {
  const { film, whole } = data.curves[c];
  return film && value !== null && !(whole && !Number.isInteger(value)) ? film.join(String(value)) : null;
}

/* ---- words and numbers ---- */
/* Text for plotly, which reads some HTML, and %{x} in what it shows beside a mark. */
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%\{/g, "%&#123;");
const fixed = (x, digits = 1) => (x === null || x === undefined ? "–" : x.toFixed(digits).replace("-", "−"));
const signed = (x, digits = 1) => (x > 0 ? "+" : "") + fixed(x, digits) + "%";
const grouped = (x) => Math.round(x).toLocaleString("en-US");
const plural = (n, noun) => grouped(n) + " " + noun + (n === 1 ? "" : "s");
const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
const sum = (list) => list.reduce((a, b) => a + b, 0);
function median(list) {
  const sorted = [...list].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    for (let rest = word; rest; rest = rest.slice(width)) {
      const last = lines.length - 1, piece = rest.slice(0, width);
      if (lines[last] && lines[last].length + piece.length + 1 > width) lines.push(piece);
      else lines[last] += (lines[last] ? " " : "") + piece;
    }
  }
  return lines.map(escaped).join("<br>");
}
const narrow = () => window.innerWidth < 600;

/* ---- elements ---- */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
function table(target, caption, head, rows) {
  const kind = (i) => (i ? {} : { class: "text" });
  const top = element("tr", {}, ...head.map((h, i) => element("th", { scope: "col", ...kind(i) }, h)));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((v, i) => element(i ? "td" : "th", i ? {} : { scope: "row" }, v))));
  target.replaceChildren(element("table", {}, element("caption", {}, caption), element("thead", {}, top), element("tbody", {}, ...body)));
}
function options(select, entries, keep) {
  const before = keep ?? select.value;
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value: String(value) }, text)));
  if (entries.some(([value]) => String(value) === String(before))) select.value = String(before);
}

/* ---- colours and lines ---- */
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const printing = window.matchMedia("print");
function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { ink: read("--ink"), muted: read("--muted"), grid: read("--grid"), paper: read("--paper"), line: read("--line"), accent: read("--accent"), bad: read("--bad"), less: read("--less"), more: read("--more") };
}
function paint(k) {
  const colour = COLOURS[k % COLOURS.length];
  return (dark.matches && !printing.matches && ON_DARK[colour]) || colour;
}
function look(curve) {
  const e = encoders.indexOf(data.curves[curve].encoder);
  const mine = curvesOf(data.curves[curve].encoder);
  const usual = mine.find((c) => data.defaults.includes(c));
  const rank = curve === usual ? 0 : 1 + mine.filter((c) => c !== usual).indexOf(curve);
  return { colour: paint(e), symbol: SYMBOLS[e % SYMBOLS.length], dash: DASHES[rank % DASHES.length] };
}
/* `wanted` legend entries get rows of their own below the axis; on a phone a long legend is left to the filters' keys. */
function layout(x, y, wanted = 0) {
  const entries = narrow() && wanted > 8 ? 0 : wanted;
  const t = theme(), rows = Math.ceil(entries / (narrow() ? 2 : 6));
  const axis = { gridcolor: t.grid, linecolor: t.line, zerolinecolor: t.line, tickcolor: t.line, automargin: true, title: { standoff: 8 } };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: t.ink },
    margin: { l: 52, r: 14, t: 12, b: 56 + 22 * rows }, hovermode: "closest", height: (narrow() ? 340 : 400) + 22 * rows,
    hoverlabel: { align: "left", bgcolor: t.paper, bordercolor: t.muted, font: { family: getComputedStyle(document.body).fontFamily, color: t.ink, size: narrow() ? 10 : 12 } },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: narrow() ? 11 : 12 } },
    showlegend: entries > 0,
    xaxis: { ...axis, ...x, title: { text: wrapped(x.title, narrow() ? 32 : 99), standoff: 8 } },
    yaxis: { ...axis, ...y, title: { text: wrapped(y.title, narrow() ? 24 : 60), standoff: 8 } },
  };
}
/* A log axis that shows 1, 2 and 5 of each decade, in full: 2,000 (2k where there is little room) and not "2". */
const logAxis = (title, small = narrow()) => ({ type: "log", dtick: "D2", tickformat: small ? "~s" : ",~g", title });
const CONFIG = { responsive: true, displaylogo: false, typesetMath: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "svg", filename: "vmaf-tune" } };
/* A sentence in place of a figure that has nothing to show. */
function blank(words) {
  const axis = { title: "", visible: false, type: "linear", range: [0, 1], automargin: false }, shape = layout(axis, axis);
  const place = { xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, font: { size: 14, color: theme().muted } };
  return { ...shape, height: 130, margin: { l: 8, r: 8, t: 8, b: 8 }, annotations: [{ ...place, text: wrapped(words, narrow() ? 36 : 90) }] };
}
function draw(id, traces, shape, words, none = "Nothing is selected.") {
  const plot = byId(id);
  if (!traces.some((t) => t.x.length)) [traces, shape, words] = [[], blank(none), none];
  plot.parentElement.querySelector(".printed").textContent = words;
  Plotly.react(plot, traces, shape, CONFIG);
  /* The picture is described as a whole; what plotly stacks on it says nothing to a screen reader. */
  plot.querySelectorAll(".main-svg").forEach((svg, k) => {
    for (const [name, value] of Object.entries(k ? { "aria-hidden": "true" } : { role: "img", "aria-label": words })) svg.setAttribute(name, value);
  });
}

/* ---- filters ---- */
function box(text, checked, change, kind, key) {
  const input = element("input", { type: "checkbox", checked, "data-filter": kind });
  input.addEventListener("change", () => change(input.checked));
  return element("label", { class: kind }, input, ...(key ? [key] : []), element("span", {}, text));
}
/* Plotly's markers in a box of 12 by 12. */
const MARKERS = {
  circle: "6,1.4 7.8,1.8 9.3,2.7 10.2,4.2 10.6,6 10.2,7.8 9.3,9.3 7.8,10.2 6,10.6 4.2,10.2 2.7,9.3 1.8,7.8 1.4,6 1.8,4.2 2.7,2.7 4.2,1.8",
  square: "2,2 10,2 10,10 2,10", diamond: "6,0 12,6 6,12 0,6", "triangle-up": "6,1 11.5,10.5 .5,10.5", "triangle-down": "6,11 .5,1.5 11.5,1.5",
  x: "3,.5 6,3.5 9,.5 11.5,3 8.5,6 11.5,9 9,11.5 6,8.5 3,11.5 .5,9 3.5,6 .5,3", cross: "4,0 8,0 8,4 12,4 12,8 8,8 8,12 4,12 4,8 0,8 0,4 4,4",
  star: "6,0 7.4,4.1 11.7,4.1 8.3,6.7 9.5,10.9 6,8.4 2.5,10.9 3.7,6.7 .3,4.1 4.6,4.1", pentagon: "6,.5 11.2,4.3 9.2,10.4 2.8,10.4 .8,4.3",
  hexagram: "6,0 7.7,3.1 11.2,3 9.4,6 11.2,9 7.7,8.9 6,12 4.3,8.9 .8,9 2.6,6 .8,3 4.3,3.1",
};
function drawn(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function lineKey(curve) {
  const { colour, symbol, dash } = look(curve);
  const gaps = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2", longdash: "9 3", longdashdot: "9 2 2 2" };
  return drawn("svg", { class: "key", viewBox: "0 0 48 12", "aria-hidden": "true" },
    drawn("line", { x1: 0, x2: 48, y1: 6, y2: 6, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": gaps[dash] }),
    drawn("polygon", { points: MARKERS[symbol], fill: colour, transform: "translate(18 0)" }));
}
function flip(set, members, on) {
  members.forEach((m) => (on ? set.add(m) : set.delete(m)));
  changed();
}
function button(text, action) {
  const node = element("button", { type: "button" }, text);
  node.addEventListener("click", action);
  return node;
}
function buildFilters() {
  const only = (set, keep) => { set.clear(); flip(set, keep, true); };
  const all = range(data.curves.length), every = range(data.sources.length);
  byId("filter-encoders").replaceChildren(
    element("legend", {}, "Encoders and presets"),
    element("div", { class: "buttons" }, button("All", () => only(chosen.curves, all)), button("One preset each", () => only(chosen.curves, data.defaults)), button("None", () => only(chosen.curves, []))),
    ...encoders.flatMap((encoder) => {
      const mine = curvesOf(encoder), on = mine.filter((c) => chosen.curves.has(c)).length;
      const head = box(encoder, on > 0, (yes) => flip(chosen.curves, mine, yes), "encoder");
      head.firstChild.indeterminate = on > 0 && on < mine.length;
      return [head, ...mine.map((c) => box(data.curves[c].preset ?? "no preset", chosen.curves.has(c), (yes) => flip(chosen.curves, [c], yes), "preset", lineKey(c)))];
    }));
  byId("filter-sources").replaceChildren(
    element("legend", {}, "Sources"),
    element("div", { class: "buttons" }, button("All", () => only(chosen.sources, every)), button("None", () => only(chosen.sources, []))),
    ...every.map((s) => box(data.sources[s], chosen.sources.has(s), (yes) => flip(chosen.sources, [s], yes), "source")));
}
function changed() {
  const place = [...document.querySelectorAll("#filters input, #filters button")].indexOf(document.activeElement);
  buildFilters();
  if (place >= 0) document.querySelectorAll("#filters input, #filters button")[place]?.focus();
  const shown = cells.s.filter((s, i) => chosen.sources.has(s) && chosen.curves.has(cells.c[i])).length;
  const words = `Showing ${grouped(shown)} of ${plural(cells.s.length, "cell")}: ${plural(sources().length, "source")}, ${plural(curves().length, "encoder and preset pair")}.`;
  byId("status").textContent = words;
  byId("printed").textContent = words;
  drawAll();
}
