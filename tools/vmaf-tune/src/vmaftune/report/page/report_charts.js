"use strict";
/* The figures of a sweep. Each draw function reads the filters and its own controls, and nothing else. */
const scale = data.scale, good = (i) => scale.sign * cells.vmaf[i];

/* ---- rate against quality ---- */
function hover(i) {
  const c = data.curves[cells.c[i]];
  const cost = cells.cpu[i] === null ? "" : `<br>encode ${fixed(cells.cpu[i], 1)} ms CPU per frame`;
  return `<b>${escaped(c.label)}</b> · ${escaped(setting(i))}<br>${escaped(data.sources[cells.s[i]])}` +
    `<br>${scale.label} ${fixed(cells.vmaf[i], scale.digits)} (worst frame ${fixed(cells.min[i], scale.digits - 1)}, 5% ${scale.sign > 0 ? "below" : "above"} ${fixed(cells.p5[i], scale.digits - 1)})` +
    `<br>${grouped(cells.kbps[i])} kbit/s${cost}<br><br>${wrapped(data.commands[cells.cmd[i]], narrow() ? 40 : 72)}`;
}
function rateTraces(source, axes, legend, size) {
  const traces = [];
  for (const c of curves()) {
    const mine = [...cellsOf(source, c)].sort((a, b) => cells.kbps[a] - cells.kbps[b]);
    if (!mine.length) continue;
    const { colour, symbol, dash } = look(c);
    traces.push({
      type: "scatter", mode: "lines+markers", name: escaped(label(c)), legendgroup: label(c), showlegend: legend, ...axes,
      x: mine.map((i) => cells.kbps[i]), y: mine.map((i) => cells.vmaf[i]), customdata: mine, text: mine.map(hover),
      hovertemplate: "%{text}<extra></extra>", line: { color: colour, dash, width: size / 3.5 }, marker: { color: colour, symbol, size },
    });
  }
  return traces;
}
/* Upper convex hull over ln(kbit/s), cheapest first, of the shown cells of one source. */
function hull(source) {
  const points = curves().flatMap((c) => cellsOf(source, c)).sort((a, b) => cells.kbps[a] - cells.kbps[b] || good(b) - good(a));
  const slope = (a, b) => (good(b) - good(a)) / Math.log(cells.kbps[b] / cells.kbps[a]);
  const kept = [];
  for (const i of points) {
    if (kept.length && good(i) <= good(kept.at(-1))) continue;
    while (kept.length > 1 && slope(kept.at(-2), kept.at(-1)) <= slope(kept.at(-2), i)) kept.pop();
    kept.push(i);
  }
  return kept;
}
function hullTrace(source, axes, legend, size) {
  const kept = hull(source);
  return {
    type: "scatter", mode: "lines", name: "convex hull", legendgroup: "hull", showlegend: legend, hoverinfo: "skip", ...axes,
    x: kept.map((i) => cells.kbps[i]), y: kept.map((i) => cells.vmaf[i]), line: { color: theme().muted, width: size + 2 }, opacity: 0.3,
  };
}
function drawRate() {
  const all = sources();
  options(byId("rate-source"), [...all.map((s) => [s, data.sources[s]]), ["all", "All sources, side by side"]]);
  const value = byId("rate-source").value, wantsHull = byId("rate-hull").checked;
  const grid = value === "all", shown = grid ? all : [Number(value)];
  const columns = grid ? Math.min(shown.length, narrow() ? 1 : 3) : 1, rows = Math.ceil(shown.length / columns);
  const shape = layout(logAxis("Bitrate, kbit/s (log)", grid || narrow()), { title: `${scale.label}, mean over frames` }, curves().length + 1);
  const traces = [], axis = { ...shape.xaxis }, upright = { ...shape.yaxis };
  shape.annotations = [];
  shown.forEach((s, k) => {
    const n = k ? k + 1 : "", axes = { xaxis: "x" + n, yaxis: "y" + n };
    if (wantsHull) traces.push(hullTrace(s, axes, !k, grid ? 5 : 7));
    traces.push(...rateTraces(s, axes, !k, grid ? 5 : 7));
    if (!grid) return;
    const column = k % columns, row = Math.floor(k / columns), gapX = 0.05, gapY = Math.min(0.09, 0.25 / rows);
    const wide = (1 - gapX * (columns - 1)) / columns, tall = (1 - gapY * (rows - 1)) / rows;
    const x = [column * (wide + gapX), column * (wide + gapX) + wide], top = 1 - row * (tall + gapY);
    shape["xaxis" + n] = { ...axis, ...(k ? { matches: "x" } : {}), tickfont: { size: 10 }, domain: x, anchor: "y" + n, title: { text: row === rows - 1 ? "kbit/s" : "" } };
    shape["yaxis" + n] = { ...upright, ...(k ? { matches: "y" } : {}), tickfont: { size: 10 }, domain: [Math.max(0, top - tall), top], anchor: "x" + n, title: { text: column ? "" : scale.label } };
    shape.annotations.push({ text: escaped(data.sources[s]), x: x[0], y: top, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12 } });
  });
  if (grid) {
    shape.height += rows * 240 - 340;
    shape.margin.t = 30;
  }
  const what = grid ? plural(shown.length, "source") : data.sources[shown[0]];
  draw("rate-plot", traces, shape, `Rate-quality curves of ${what}: bitrate on a logarithmic axis against mean ${scale.label}, ${plural(curves().length, "encoder and preset pair")}.`);
  const listed = shown.flatMap((s) => curves().flatMap((c) => cellsOf(s, c))), corners = new Set(shown.flatMap(hull));
  table(byId("rate-table"), `Measured cells of ${what}`, [...(grid ? ["Source"] : []), "Encoder and preset", "Quality value", "kbit/s", scale.label, "Harmonic", "Worst frame", "ms CPU per frame", "On the hull"],
    listed.map((i) => [...(grid ? [data.sources[cells.s[i]]] : []), label(cells.c[i]), setting(i), grouped(cells.kbps[i]), fixed(cells.vmaf[i], scale.digits), fixed(cells.hm[i], 2), fixed(cells.min[i], scale.digits - 1), fixed(cells.cpu[i]), corners.has(i) ? "yes" : ""]));
}

/* ---- BD-rate ---- */
const LITTLE = 10;
const pairs = (data.curves.length * (data.curves.length - 1)) / 2;
function compared(s, test, anchor) {
  if (test === anchor) return cellsOf(s, test).length ? { percent: 0, common: 100 } : { percent: null, common: 0, reason: `${label(test)} not measured on this source` };
  const [high, low] = test > anchor ? [test, anchor] : [anchor, test];
  const at = s * pairs + (high * (high - 1)) / 2 + low, ratio = data.bd.ratio[at];
  if (ratio === null) return { percent: null, common: data.bd.common[at], reason: data.bd.reasons[data.bd.why[at]] };
  return { percent: 100 * Math.expm1(test > anchor ? ratio : -ratio), common: data.bd.common[at] };
}
function pooled(test, anchor, pool) {
  const found = sources().map((s) => compared(s, test, anchor));
  const usable = found.filter((r) => r.percent !== null);
  const percent = usable.length ? pool(usable.map((r) => r.percent)) : null;
  return { percent, count: usable.length, low: usable.filter((r) => r.common < LITTLE).length, reason: found.find((r) => r.reason)?.reason };
}
function drawMatrix() {
  const shown = fewCurves(byId("bd-presets").value === "all"), pool = byId("bd-pool").value === "median" ? median : mean;
  if (!shown.length) return byId("bd-table").replaceChildren(element("p", {}, "Nothing is selected."));
  const head = element("tr", {}, element("th", { class: "text", scope: "col" }, "Bits of ↓ against →"), ...shown.map((c) => element("th", { scope: "col" }, label(c))));
  const body = shown.map((test) => element("tr", {}, element("th", { scope: "row" }, label(test)), ...shown.map((anchor) => matrixCell(test, anchor, pool))));
  byId("bd-table").replaceChildren(element("table", { class: "matrix" },
    element("caption", {}, `BD-rate, ${byId("bd-pool").value} over ${plural(sources().length, "source")}, percent. Negative (blue): the row needs fewer bits than the column for the same ${scale.label}. Small print: the number of sources, where some have none.`, element("span", { class: "hint" }, " Press a figure to see it by source.")),
    element("thead", {}, head), element("tbody", {}, ...body)));
}
function matrixCell(test, anchor, pool) {
  if (test === anchor) return element("td", { class: "none" }, "·");
  const { percent, count, low, reason } = pooled(test, anchor, pool);
  if (percent === null) return element("td", { class: "none", title: reason ?? "" }, "none", element("small", {}, reason ?? "no source selected"));
  const press = element("button", { type: "button", "aria-label": `${label(test)} against ${label(anchor)}: ${signed(percent)}, show by source` }, signed(percent) + (low ? "†" : ""));
  press.addEventListener("click", () => { byId("pair-test").value = test; byId("pair-anchor").value = anchor; drawPair(); byId("pair-plot").scrollIntoView({ block: "nearest" }); });
  const strength = Math.min(Math.abs(percent) / 60, 1) * 0.55;
  const node = element("td", { style: `background: rgba(var(--${percent < 0 ? "less" : "more"}), ${strength.toFixed(2)})` }, press);
  if (count < sources().length) node.append(element("small", {}, `${count} of ${sources().length}`));
  return node;
}
function drawPair() {
  const shown = curves(), test = byId("pair-test"), anchor = byId("pair-anchor"), entries = shown.map((c) => [c, label(c)]);
  const others = [...shown, ...fewCurves(false)].filter((c) => c !== data.anchor);
  options(test, entries, test.value || others.at(-1));
  options(anchor, entries, anchor.value || data.anchor);
  const same = test.value === anchor.value, lonely = data.curves.length < 2 ? "The sweep has one curve only" : "Both are the same curve";
  const none = !shown.length || !sources().length ? "Nothing is selected." : same ? `${lonely}: there is nothing to compare it with.` : "No source has a figure; the reasons are below.";
  const found = (same ? [] : sources()).map((s) => ({ s, ...compared(s, Number(test.value), Number(anchor.value)) }));
  const usable = found.filter((r) => r.percent !== null).sort((a, b) => a.percent - b.percent);
  const t = theme();
  const shape = layout({ title: "BD-rate", zeroline: true, ticksuffix: "%", nticks: narrow() ? 3 : 12, tickangle: 0 }, { title: "", autorange: "reversed", type: "category", showgrid: false, tickfont: { size: narrow() ? 10 : 12 } });
  shape.height = 90 + 27 * Math.max(usable.length, 2);
  const words = same ? "" : `${label(Number(test.value))} against ${label(Number(anchor.value))}`;
  draw("pair-plot", [{
    type: "bar", orientation: "h", x: usable.map((r) => r.percent), y: usable.map((r) => escaped(data.sources[r.s])), marker: { color: usable.map((r) => `rgba(${r.percent < 0 ? t.less : t.more}, .5)`) }, textfont: { color: t.ink },
    customdata: usable.map((r) => fixed(r.common)), hovertemplate: "%{y}<br>%{x:+.2f}%<br>over %{customdata} " + scale.label + " that both reach<extra></extra>", text: usable.map((r) => signed(r.percent)), textposition: "auto",
  }], shape, `BD-rate by source, ${words}: ${usable.map((r) => data.sources[r.s] + " " + signed(r.percent)).join(", ")}`, none);
  byId("pair-missing").replaceChildren(...found.filter((r) => r.percent === null).map((r) => element("li", {}, `${data.sources[r.s]}: none, ${r.reason}`)));
}

/* ---- quality values ---- */
const target = () => {
  const wanted = Number(byId("target").value) || data.target;
  return data.targets.reduce((near, one) => (Math.abs(one - wanted) < Math.abs(near - wanted) ? one : near));
};
const UNKNOWN = "No quality value of these cells is known.";
function drawQuality() {
  const select = byId("quality-curve");
  options(select, curves().map((c) => [c, label(c)]), select.value || data.anchor);
  byId("target-shown").textContent = target();
  table(byId("quality-table"), "Nothing is selected.", [], []);
  if (select.value === "") return draw("quality-plot", [], {}, "");
  const c = Number(select.value), t = theme(), { colour } = look(c), traces = [], byValue = new Map();
  for (const s of sources()) {
    const mine = cellsOf(s, c).filter((i) => cells.q[i] !== null);
    mine.forEach((i) => byValue.set(cells.q[i], [...(byValue.get(cells.q[i]) || []), cells.vmaf[i]]));
    traces.push({ type: "scatter", mode: "lines", x: mine.map((i) => cells.q[i]), y: mine.map((i) => cells.vmaf[i]), line: { color: t.muted, width: 1 }, opacity: 0.55, showlegend: false, hovertemplate: `${escaped(data.sources[s])}<br>VMAF %{y:.2f} at %{x}<extra></extra>` });
  }
  const values = [...byValue.keys()].sort((a, b) => a - b), middle = values.map((q) => mean(byValue.get(q)));
  const spread = values.map((q, k) => Math.sqrt(mean(byValue.get(q).map((v) => (v - middle[k]) ** 2))));
  const edge = { type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  traces.unshift({ ...edge, x: values, y: middle.map((m, k) => m - spread[k]) }, { ...edge, x: values, y: middle.map((m, k) => m + spread[k]), fill: "tonexty", fillcolor: colour + "33", name: "± one standard deviation over sources", showlegend: true });
  traces.push({ type: "scatter", mode: "lines+markers", name: "mean over sources", x: values, y: middle, line: { color: colour, width: 3 }, marker: { size: 8 }, hovertemplate: "mean %{y:.2f} at %{x}<extra></extra>" });
  const knob = data.curves[c].knob.toUpperCase();
  const shape = layout({ title: `${knob} of ${label(c)} (coarser to the right)` }, { title: scale.label }, 2);
  shape.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: target(), y1: target(), line: { color: t.bad, dash: "dot", width: 1.5 } }];
  shape.annotations = [{ xref: "paper", x: 1, y: target(), text: "target " + target(), showarrow: false, xanchor: "right", yanchor: "bottom", font: { color: t.bad, size: 12 } }];
  draw("quality-plot", traces, shape, `${knob} against ${scale.label} for ${label(c)}: mean ${values.map((q, k) => `${fixed(middle[k])} at ${q}`).join(", ")}; the grey lines are single sources.`, sources().length ? UNKNOWN : undefined);
  table(byId("quality-table"), `${scale.label} of ${label(c)}`, [knob, "Mean over sources", "Standard deviation", "Sources"], values.map((q, k) => [String(q), fixed(middle[k], scale.digits), fixed(spread[k], scale.digits), String(byValue.get(q).length)]));
}
const needed = (c) => sources().map((s) => data.quality[s + ":" + c]).filter(Boolean).map((row) => row[data.targets.indexOf(target())]);
/* The coarsest value that reaches the target on `share` of the sources. */
function forShare(values, share) {
  const reached = values.filter((v) => v !== null).sort((a, b) => b - a), count = Math.max(1, Math.ceil(share * values.length - 1e-9));
  return reached.length >= count ? reached[count - 1] : null;
}
function drawReach() {
  const shown = fewCurves(byId("reach-presets").value === "all"), traces = [], rows = [], typed = [];
  for (const c of shown) {
    const values = needed(c), swept = cells.q.filter((q, i) => cells.c[i] === c && q !== null && chosen.sources.has(cells.s[i]));
    if (!values.length || !swept.length) continue;
    const [low, high] = [Math.min(...swept), Math.max(...swept)], { colour, symbol, dash } = look(c);
    const reached = values.filter((v) => v !== null).sort((a, b) => a - b), share = (q) => (100 * reached.filter((v) => v >= q).length) / values.length;
    const steps = [...new Set([low, ...reached, high])].sort((a, b) => a - b);
    traces.push({ type: "scatter", mode: "lines+markers", name: escaped(label(c)), x: steps, y: steps.map(share), line: { color: colour, dash, width: 2.5, shape: "vh" }, marker: { color: colour, symbol, size: 7 }, hovertemplate: `${escaped(label(c))}<br>%{y:.0f}% of sources at ${escaped(data.curves[c].knob)} %{x}<extra></extra>` });
    const at = (p) => { const v = forShare(values, p); return v === null ? "out of reach" : (v >= high ? "≥ " : "") + String(v); };
    rows.push([label(c), data.curves[c].knob, at(0.5), at(0.9), at(1), `${low} to ${high}`, `${values.length - reached.length} of ${values.length}`]);
    const film = filmCommand(c, forShare(values, 0.9));
    if (film) typed.push(element("li", {}, label(c), element("pre", {}, film)));
  }
  const shape = layout({ title: "Quality value (each encoder's own scale, coarser to the right)" }, { title: `Share of sources with ${scale.label} ${scale.meets} ${target()}`, range: [-3, 103], ticksuffix: "%" }, traces.length);
  draw("reach-plot", traces, shape, `Share of sources that reach ${scale.label} ${target()}, against the quality value. The numbers are in the table below the figure.`, shown.length && sources().length ? UNKNOWN : undefined);
  table(byId("reach-table"), `Coarsest quality value that still gives ${scale.label} ${target()} or better`, ["Encoder and preset", "Knob", "For half of the sources", "For 90%", "For all", "Swept", "Sources out of reach"], rows);
  byId("reach-commands").replaceChildren(...(typed.length ? typed : [element("li", {}, "No value that was swept is enough for 90% of the sources.")]));
}

/* ---- speed against efficiency ---- */
function drawSpeed() {
  const select = byId("speed-anchor");
  options(select, range(data.curves.length).map((c) => [c, label(c)]), select.value || data.anchor);
  const anchor = Number(select.value), traces = [], rows = [], most = sources().filter((s) => cellsOf(s, anchor).length).length;
  /* A mark is over the sources that have a BD-rate, its time over the same ones: fewer than the anchor has, and it is no match for the others. */
  const few = (p) => p.count < most, over = (p) => (few(p) ? `${p.count} of ${plural(most, "source")}` : String(p.count));
  for (const encoder of encoders) {
    const points = curvesOf(encoder).filter((c) => chosen.curves.has(c)).map((c) => {
      const usable = sources().filter((s) => compared(s, c, anchor).percent !== null);
      const times = (usable.length ? usable : sources()).flatMap((s) => cellsOf(s, c)).map((i) => cells.cpu[i]).filter(Boolean);
      return { c, ms: times.length ? Math.exp(mean(times.map(Math.log))) : null, ...pooled(c, anchor, mean) };
    }).filter((p) => p.ms !== null);
    rows.push(...points.map((p) => [label(p.c), fixed(p.ms, 1), p.percent === null ? "none" : signed(p.percent), over(p)]));
    const drawn = points.filter((p) => p.percent !== null).sort((a, b) => few(a) - few(b) || a.ms - b.ms);
    if (!drawn.length) continue;
    const { colour, symbol } = look(drawn[0].c), preset = (p) => escaped(data.curves[p.c].preset ?? "");
    /* A gap before every open mark: no line joins it to the others. */
    const marks = drawn.flatMap((p) => (few(p) ? [null, p] : [p])), of = (get) => marks.map((p) => p && get(p));
    traces.push({
      type: "scatter", mode: "lines+markers+text", name: escaped(encoder), x: of((p) => p.ms), y: of((p) => p.percent), text: of((p) => preset(p) + (few(p) ? `<br>${p.count} of ${most}${narrow() ? "" : " sources"}` : "")), textposition: encoders.indexOf(encoder) % 2 ? "bottom center" : "top center", textfont: { size: 11 }, cliponaxis: false,
      line: { color: colour, width: 1.5 }, marker: { color: colour, symbol: marks.map((p) => symbol + (p && few(p) ? "-open" : "")), size: 11 }, customdata: of((p) => [preset(p), over(p)]), hovertemplate: `${escaped(encoder)} %{customdata[0]}<br>%{x:.1f} ms CPU per frame<br>%{y:+.1f}% bits, mean over %{customdata[1]}<extra></extra>`,
    });
  }
  const shape = layout(logAxis("CPU time of the encode, ms per frame (log)"), { title: `Bits against ${label(anchor)}`, ticksuffix: "%", zeroline: true }, traces.length);
  shape.annotations = [{ text: "fewer bits, less time: lower left", xref: "paper", yref: "paper", x: 0.01, y: 0.01, showarrow: false, font: { size: 11, color: theme().muted } }];
  draw("speed-plot", traces, shape, `CPU time per frame against BD-rate relative to ${label(anchor)}.`, curves().length && sources().length ? "No CPU time of these cells is known, or no BD-rate." : undefined);
  table(byId("speed-table"), `CPU time and bits against ${label(anchor)}`, ["Encoder and preset", "ms CPU per frame", "Mean BD-rate", "Sources"], rows);
}
