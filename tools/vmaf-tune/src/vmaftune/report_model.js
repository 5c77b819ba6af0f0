"use strict";
/* The figures of a training run: predicted against measured, and residuals by score band. */

function drawModel() {
  const { scatter, groups, encoders: names, bands } = data.model, t = theme();
  const by = byId("scatter-by").value, members = by === "group" ? groups : names;
  const traces = members.map((name, m) => {
    const mine = range(scatter.y.length).filter((i) => scatter[by][i] === m), known = encoders.indexOf(name);
    const k = by === "encoder" && known >= 0 ? known : m, colour = COLOURS[k % COLOURS.length];
    return {
      type: "scatter", mode: "markers", name: escaped(name), x: mine.map((i) => scatter.y[i]), y: mine.map((i) => scatter.p[i]),
      marker: { color: colour === "ink" ? t.ink : colour, symbol: SYMBOLS[Math.floor(k / (by === "group" ? COLOURS.length : 1)) % SYMBOLS.length], size: 6, opacity: 0.75 },
      hovertemplate: `${escaped(name)}<br>measured %{x:.2f}, predicted %{y:.2f}<extra></extra>`,
    };
  });
  const shape = layout({ title: "Measured VMAF" }, { title: "Predicted VMAF", scaleanchor: narrow() ? undefined : "x" });
  const low = Math.min(...scatter.y, ...scatter.p), high = Math.max(...scatter.y, ...scatter.p);
  shape.shapes = [{ type: "line", x0: low, y0: low, x1: high, y1: high, line: { color: t.muted, dash: "dot", width: 1.5 }, layer: "below" }];
  shape.height = narrow() ? 460 : 560;
  draw("scatter-plot", traces, shape, `Predicted against measured VMAF of ${plural(scatter.y.length, "held-out row")}, coloured by ${by}.`);
  const q = (k) => bands.map((b) => b.quantiles[k]);
  const box = { type: "box", x: bands.map((b) => `${b.band} (n=${b.n})`), lowerfence: q(0), q1: q(1), median: q(2), q3: q(3), upperfence: q(4), fillcolor: COLOURS[0] + "44", line: { color: COLOURS[0], width: 2 }, showlegend: false };
  draw("bands-plot", [box], layout({ title: "Measured VMAF", type: "category", showgrid: false }, { title: "Predicted − measured", zeroline: true }),
    `Residuals by band of the measured score: ${bands.map((b) => `${b.band}: median ${fixed(b.quantiles[2], 2)}, RMSE ${fixed(b.rmse, 2)}`).join("; ")}.`);
}
byId("scatter-by").addEventListener("change", drawModel);
