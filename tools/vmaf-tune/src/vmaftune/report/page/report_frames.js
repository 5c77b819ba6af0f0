"use strict";
/* Frames of one cell, its command, and the start of the page. */

const scores = (() => {
  const bytes = Uint8Array.from(atob(data.frames.scores), (ch) => ch.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float64Array.from(range(bytes.length / 2), (i) => view.getUint16(2 * i, true) / 100);
})();
let scored = 0;
const firstScore = [0, ...data.frames.count.map((n) => (scored += n))];

const WORST = 5, APART = 5;
/* The lowest frames among those that are the lowest around: five neighbours of one dip say what one says. */
function worstFrames(values) {
  const around = (i) => Math.min(...values.slice(Math.max(0, i - APART), i + APART + 1));
  const dips = range(values.length).filter((i) => values[i] === around(i)).sort((a, b) => values[a] - values[b]);
  return dips.filter((i, k) => dips.slice(0, k).every((d) => Math.abs(d - i) > APART)).slice(0, WORST);
}
function fillCellChoice(keep) {
  const s = byId("frames-source"), c = byId("frames-curve"), q = byId("frames-quality");
  if (keep === undefined && s.value === "") keep = cellsOf(0, data.anchor)[2];
  options(s, sources().map((i) => [i, data.sources[i]]), keep === undefined ? undefined : cells.s[keep]);
  options(c, curves().filter((i) => cellsOf(Number(s.value), i).length).map((i) => [i, label(i)]), keep === undefined ? undefined : cells.c[keep]);
  const mine = cellsOf(Number(s.value), Number(c.value || -1));
  options(q, mine.map((i) => [i, `${setting(i)} · ${scale.label} ${fixed(cells.vmaf[i], scale.digits - 1)}`]), keep);
}
function drawFrames(keep) {
  fillCellChoice(keep);
  const text = byId("frames-quality").value, t = theme();
  const block = data.frames.block, thinned = block > 1 ? ` Each point is the lowest of ${block} frames, as the sweep has too many to draw them all.` : "";
  byId("frames-plot").parentElement.querySelector("figcaption").textContent = "Circles mark the worst frames." + thinned;
  const shape = layout({ title: "Frame" }, { title: block > 1 ? `Lowest VMAF of ${block} frames` : "VMAF of the frame" }, 2);
  shape.height = 360;
  if (text === "") {
    draw("frames-plot", [], shape, "");
    byId("frames-table").replaceChildren();
    byId("frames-command").replaceChildren();
    byId("frames-film").hidden = true;
    return;
  }
  const i = Number(text), values = Array.from(scores.slice(firstScore[i], firstScore[i + 1]));
  const worst = worstFrames(values), { colour } = look(cells.c[i]), name = `${data.sources[cells.s[i]]}, ${label(cells.c[i])}, ${setting(i)}`;
  const at = (k) => k * block, named = (k) => (block > 1 ? `${at(k)} to ${at(k) + block - 1}` : String(at(k))), time = (k) => (cells.fps[i] ? `${fixed(at(k) / cells.fps[i], 2)} s` : "–");
  const traces = values.length ? [
    { type: "scatter", mode: "lines", name: "VMAF", x: values.map((_, k) => at(k)), y: values, line: { color: colour, width: 1.8 }, hovertemplate: "frame %{x}<br>VMAF %{y:.2f}<extra></extra>" },
    { type: "scatter", mode: "markers+text", name: "worst frames", x: worst.map(at), y: worst.map((k) => values[k]), text: worst.map((k) => String(at(k))), textposition: "bottom center", cliponaxis: false, marker: { color: t.bad, symbol: "circle-open", size: 12, line: { width: 2.5 } }, hovertemplate: "frame %{x}<br>VMAF %{y:.2f}<extra></extra>" },
  ] : [];
  const line = (y, dash) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: t.muted, width: 1, dash } });
  const tag = (y, text) => ({ xref: "paper", x: 1, xanchor: "right", y, yanchor: "bottom", text, showarrow: false, font: { size: 11, color: t.muted } });
  shape.shapes = [line(cells.vmaf[i], "dash")];
  shape.annotations = [tag(cells.vmaf[i], `mean ${fixed(cells.vmaf[i], 2)}`)];
  draw("frames-plot", traces, shape, `VMAF of ${plural(values.length, block > 1 ? `block of ${block} frames` : "frame")} of ${name}; the worst are frames ${worst.map((k) => `${named(k)} (${fixed(values[k])})`).join(", ")}.`, "The corpus holds no frames of this cell.");
  table(byId("frames-table"), `Worst frames of ${name}, each the lowest within ${APART * block} frames`, ["Frame", "Time", "VMAF"], worst.map((k) => [named(k), time(k), fixed(values[k], 2)]));
  const words = (data.commands[cells.cmd[i]] || "no command was recorded").split(" ");
  const film = filmCommand(cells.c[i], cells.q[i]);
  byId("frames-film").hidden = !film;
  byId("frames-film-command").textContent = film ?? "";
  byId("frames-command").replaceChildren(...words.flatMap((word) => [element("span", { class: "word" }, word), " "]));
}

const FIGURES = cells.s.length ? [drawRate, drawMatrix, drawPair, drawQuality, drawReach, drawSpeed, drawFrames] : [];
function drawAll() {
  FIGURES.forEach((figure) => figure());
  if (data.questions.length) drawQuestion();
  if (data.ladders.length) drawLadders();
  if (data.model) drawModel();
  /* What scrolls sideways can be reached with the keyboard. */
  document.querySelectorAll(".scroll").forEach((node) => (node.scrollWidth > node.clientWidth ? (node.tabIndex = 0) : node.removeAttribute("tabindex")));
}
function connect(action, ...ids) {
  ids.forEach((id) => byId(id).addEventListener("change", () => action()));
}
function watch() {
  dark.addEventListener("change", cells.s.length ? changed : drawAll);
  printing.addEventListener("change", drawAll);
  let wide = window.innerWidth;
  window.addEventListener("resize", () => {
    if ((wide < 600) !== narrow()) drawAll();
    wide = window.innerWidth;
  });
}
function start() {
  watch();
  if (!cells.s.length) return drawAll();
  connect(drawRate, "rate-source", "rate-hull");
  connect(drawMatrix, "bd-presets", "bd-pool");
  connect(drawPair, "pair-test", "pair-anchor");
  connect(drawQuality, "quality-curve");
  connect(drawReach, "reach-presets");
  connect(() => { byId("target").value = target(); drawQuality(); drawReach(); }, "target");
  connect(drawSpeed, "speed-anchor");
  connect(drawFrames, "frames-source", "frames-curve", "frames-quality");
  if (window.innerWidth <= 900) byId("filter-box").open = false;
  changed();
  byId("rate-plot").on("plotly_click", ({ points }) => {
    const i = points[0].customdata;
    if (!chosen.sources.has(cells.s[i])) return;
    drawFrames(i);
    byId("frames").scrollIntoView({ behavior: "smooth" });
  });
}
start();
