"use strict";
/* Ladders: the hull of all sizes with its crossovers, the rungs on it, a fixed ladder beside them, encoders side by side. */

const sizeName = (p) => `${p.width}x${p.height}`;
const ladderName = (l) => `${l.encoder} ${l.preset}`;
const ladderTitle = (l) => `${l.film}: ${ladderName(l)}, scored at ${sizeName(l)}`;
const sizesOf = (l) => [...new Set([...l.points, ...l.rungs].sort((a, b) => b.width * b.height - a.width * a.height).map(sizeName))];
const rung = (r) => `${sizeName(r)} at ${r.quality}`;

function ringTrace(ladder, colour) {
  const some = ladder.rungs;
  return {
    type: "scatter", mode: "markers", name: "rungs", x: some.map((r) => r.kbps), y: some.map((r) => r.score), text: some.map(rung),
    marker: { symbol: "circle-open", size: 16, color: colour, line: { color: colour, width: 2.5 } }, hovertemplate: "<b>rung</b> %{text}<br>VMAF %{y:.2f}, %{x:,.0f} kbit/s<extra></extra>",
  };
}
function drawLadder(ladder) {
  const t = theme(), sizes = sizesOf(ladder);
  const curve = { type: "scatter", mode: "lines", name: "cheapest size", x: ladder.curve.map((p) => p[0]), y: ladder.curve.map((p) => p[1]), line: { color: t.muted, width: 8 }, opacity: 0.35, hoverinfo: "skip" };
  const each = sizes.map((size, k) => {
    const mine = ladder.points.filter((p) => sizeName(p) === size).sort((a, b) => a.kbps - b.kbps);
    return {
      type: "scatter", mode: "lines+markers", name: size, x: mine.map((p) => p.kbps), y: mine.map((p) => p.score), text: mine.map(rung),
      line: { color: paint(k), width: 1.2, dash: DASHES[k % DASHES.length] }, marker: { color: paint(k), symbol: SYMBOLS[k % SYMBOLS.length], size: 7 }, hovertemplate: "%{text}<br>VMAF %{y:.2f}, %{x:,.0f} kbit/s<extra></extra>",
    };
  }).filter((trace) => trace.x.length);
  const fixedOnes = ladder.fixed.length ? [{
    type: "scatter", mode: "markers", name: "fixed ladder", x: ladder.fixed.map((f) => f.kbps), y: ladder.fixed.map((f) => f.score), text: ladder.fixed.map(rung),
    marker: { symbol: "x-thin", size: 12, line: { color: t.bad, width: 2.5 } }, hovertemplate: "fixed ladder: %{text}<br>VMAF %{y:.2f}, %{x:,.0f} kbit/s<extra></extra>",
  }] : [];
  const traces = [curve, ...each, ringTrace(ladder, t.ink), ...fixedOnes];
  const shape = layout(logAxis("Bitrate, kbit/s (log)"), { title: `VMAF, ${ladder.statistic}` }, traces.length);
  shape.shapes = ladder.crossings.map((c) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: c.score, y1: c.score, line: { color: t.muted, dash: "dot", width: 1 }, layer: "below" }));
  shape.annotations = ladder.crossings.map((c) => ({ xref: "paper", x: 1, xanchor: "right", y: c.score, yanchor: "bottom", text: `${sizeName(c)} from here`, showarrow: false, font: { size: narrow() ? 9 : 11, color: t.muted } }));
  const listed = ladder.rungs.map((r) => `${sizeName(r)} with VMAF ${fixed(r.score)} at ${grouped(r.kbps)} kbit/s`).join(", ");
  draw("ladder-plot", traces, shape, `The hull of ${ladderTitle(ladder)}. Rungs: ${listed || "none"}.`, "No encode was made for this ladder.");
}
function ladderTables(ladder) {
  const inside = ladder.files ? ladder.files.files : [];
  const own = (k) => (inside[k] ? [fixed(inside[k].score, 2), grouped(inside[k].kbps)] : []);
  table(byId("rung-table"), `Rungs of ${ladderTitle(ladder)}`, ["Size", "Quality value", "VMAF", "95% interval", "kbit/s", "Bound, kbit/s", ...(inside.length ? ["VMAF inside the file", "kbit/s of the file"] : [])],
    ladder.rungs.map((r, k) => [sizeName(r), String(r.quality), fixed(r.score, 2), `±${fixed(1.96 * r.standard_error, 2)}`, grouped(r.kbps), r.maxrate_kbps === null ? "–" : grouped(r.maxrate_kbps), ...own(k)]));
  const some = (id, list, caption, head, row) => (list.length ? table(byId(id), caption, head, list.map(row)) : byId(id).replaceChildren());
  some("crossing-table", ladder.crossings, "Where one size takes over from another, on the way up", ["Size", "Takes over from", "VMAF", "kbit/s"], (c) => [sizeName(c), `${c.below_width}x${c.below_height}`, fixed(c.score), grouped(c.kbps)]);
  some("fixed-table", ladder.fixed, "The fixed ladder at equal VMAF", ["Fixed rung", "kbit/s", "VMAF", "kbit/s of the hull", "Bits saved"], (f) => [sizeName(f), grouped(f.kbps), fixed(f.score, 2), f.hull_kbps === null ? "–" : grouped(f.hull_kbps), f.saved === null ? "–" : signed(100 * f.saved, 0)]);
}
function drawHulls(ladder) {
  const all = range(data.ladders.length).filter((k) => data.ladders[k].film === ladder.film && sizeName(data.ladders[k]) === sizeName(ladder));
  byId("ladder-encoders").hidden = all.length < 2;
  if (all.length < 2) return;
  const traces = all.flatMap((k, i) => {
    const one = data.ladders[k], name = escaped(ladderName(one));
    const line = { type: "scatter", mode: "lines", name, legendgroup: name, x: one.curve.map((p) => p[0]), y: one.curve.map((p) => p[1]), line: { color: paint(i), width: 2.5, dash: DASHES[i % DASHES.length] }, hovertemplate: `${name}<br>VMAF %{y:.1f}, %{x:,.0f} kbit/s<extra></extra>` };
    return [line, { ...ringTrace(one, paint(i)), legendgroup: name, showlegend: false }];
  });
  const share = (test, anchor) => data.ladder_bd[test][anchor];
  const words = all.slice(1).map((k) => `${ladderName(data.ladders[k])} ${share(k, all[0]) === null ? "cannot be compared" : signed(100 * share(k, all[0]))}`).join(", ");
  draw("hulls-plot", traces, layout(logAxis("Bitrate, kbit/s (log)"), { title: `VMAF, ${ladder.statistic}` }, all.length), `Hulls of ${plural(all.length, "encoder and preset pair")}; bits against ${ladderName(data.ladders[all[0]])} at equal VMAF: ${words}.`);
  table(byId("hulls-table"), "BD-rate between hulls: bits of the row against the column for the same VMAF", ["", ...all.map((k) => ladderName(data.ladders[k]))],
    all.map((test) => [ladderName(data.ladders[test]), ...all.map((anchor) => (test === anchor ? "·" : share(test, anchor) === null ? "none" : signed(100 * share(test, anchor))))]));
}
function drawLadders() {
  const all = data.ladders, newest = all.length - 1;
  options(byId("ladder"), range(all.length).reverse().map((k) => [k, ladderTitle(all[k])]));
  const ladder = all[Number(byId("ladder").value || newest)];
  byId("ladder-said").textContent = ladder.sentences.map((s) => `${s[0].toUpperCase()}${s.slice(1)}.`).join(" ");
  byId("ladder-commands").textContent = ladder.rungs.map((r) => r.command).join("\n");
  byId("ladder-playlist").textContent = ladder.rungs.map((r) => r.playlist).join("\n");
  drawLadder(ladder);
  ladderTables(ladder);
  drawHulls(ladder);
}
byId("ladder").addEventListener("change", drawLadders);
