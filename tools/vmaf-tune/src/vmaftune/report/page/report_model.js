"use strict";
/* The figures of a training run: predicted against measured, and residuals by score band. */

function drawModel() {
  const { scatter, groups, encoders: names, bands } = data.model, t = theme();
  const by = byId("scatter-by").value, members = by === "group" ? groups : names;
  const stacked = narrow();
  /* Rows follow the filters where the sweep knows their encoder and their source group. */
  const known = { encoder: new Set(encoders), group: new Set(data.groups) };
  const on = { encoder: new Set(curves().map((c) => data.curves[c].encoder)), group: new Set(sources().map((s) => data.groups[s])) };
  const passes = (kind, name) => !known[kind].has(name) || on[kind].has(name);
  const kept = range(scatter.y.length).filter((i) => passes("encoder", names[scatter.encoder[i]]) && passes("group", groups[scatter.group[i]]));
  const traces = members.flatMap((name, m) => {
    const mine = kept.filter((i) => scatter[by][i] === m), place = encoders.indexOf(name);
    if (!mine.length) return [];
    const k = by === "encoder" && place >= 0 ? place : m;
    const symbol = SYMBOLS[(by === "group" ? k + Math.floor(k / COLOURS.length) : k) % SYMBOLS.length];
    const one = {
      type: "scatter", mode: "markers", name: escaped(name), legendgroup: String(m), x: mine.map((i) => scatter.y[i]), y: mine.map((i) => scatter.p[i]),
      marker: { color: paint(k), symbol, size: 7, opacity: 0.75 },
      hovertemplate: `${escaped(name)}<br>measured %{x:.2f}, predicted %{y:.2f}<extra></extra>`,
    };
    const other = { ...one, xaxis: "x2", yaxis: "y2", showlegend: false, y: mine.map((i) => scatter.p[i] - scatter.y[i]), hovertemplate: `${escaped(name)}<br>measured %{x:.2f}, off by %{y:+.2f}<extra></extra>` };
    return [one, other];
  });
  const shape = layout({ title: "Measured VMAF" }, { title: "Predicted VMAF" }, members.length);
  const second = layout({ title: "Measured VMAF" }, { title: "Predicted − measured", zeroline: true });
  shape.xaxis2 = { ...second.xaxis, anchor: "y2", domain: stacked ? [0, 1] : [0.56, 1], matches: "x" };
  shape.yaxis2 = { ...second.yaxis, anchor: "x2", domain: stacked ? [0, 0.42] : [0, 1] };
  Object.assign(shape.xaxis, { domain: stacked ? [0, 1] : [0, 0.45] });
  Object.assign(shape.yaxis, { domain: stacked ? [0.58, 1] : [0, 1] });
  const low = Math.min(...scatter.y), high = Math.max(...scatter.y);
  shape.shapes = [{ type: "line", x0: low, y0: low, x1: high, y1: high, line: { color: t.muted, dash: "dot", width: 1.5 }, layer: "below" }];
  shape.height += stacked ? 300 : 0;
  draw("scatter-plot", traces, shape, `Predicted against measured VMAF of ${plural(kept.length, "held-out row")}, and the difference, coloured by ${by}.`);
  const q = (k) => bands.map((b) => b.quantiles[k]);
  const box = { type: "box", x: bands.map((b) => `${b.band} (n=${b.n})`), lowerfence: q(0), q1: q(1), median: q(2), q3: q(3), upperfence: q(4), fillcolor: paint(0) + "44", line: { color: paint(0), width: 2 }, showlegend: false };
  draw("bands-plot", [box], layout({ title: "Measured VMAF", type: "category", showgrid: false }, { title: "Predicted − measured", zeroline: true, rangemode: "tozero" }),
    `Residuals by band of the measured score: ${bands.map((b) => `${b.band}: median ${fixed(b.quantiles[2], 2)}, RMSE ${fixed(b.rmse, 2)}`).join("; ")}.`);
}
byId("scatter-by").addEventListener("change", drawModel);
