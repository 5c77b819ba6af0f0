"use strict";
/* What was asked of a film: the curve that was foretold, the bracket closing, windows over time, encoders side by side. */

const answerName = (a) => `${a.encoder} ${a.preset}`;
const valueOf = (a) => (a.quality === null ? "a value for each shot" : `at ${a.quality}`);
const titleOf = (q) => `${q.statistic} ${q.label} ${q.target} on ${q.film} (${q.stop})`;
/* The colour of an encoder, the same as everywhere on the page. */
function inkOf(a) {
  const place = encoders.indexOf(a.encoder);
  return { colour: paint(place < 0 ? encoders.length : place), symbol: SYMBOLS[(place < 0 ? encoders.length : place) % SYMBOLS.length] };
}
const targetLine = (y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: theme().muted, dash: "dot", width: 1.5 }, layer: "below" });

function drawTold(question, answer) {
  const none = "No curve was foretold here.";
  if (!answer || !answer.curve) return draw("told-plot", [], layout({ title: "" }, { title: "" }), none, none);
  const { quality, score, low, high } = answer.curve, { colour, symbol } = inkOf(answer);
  const points = answer.measured, near = range(quality.length).filter((i) => Math.abs(score[i] - question.target) < 12);
  const shown = [...near.map((i) => quality[i]), ...points.map((p) => p[0])];
  const heights = [...near.flatMap((i) => [low[i], high[i]]), ...points.map((p) => p[1]), question.target];
  const line = { type: "scatter", x: quality, hoverinfo: "skip", showlegend: false };
  const traces = [
    { ...line, mode: "lines", y: low, line: { width: 0 } },
    { ...line, mode: "lines", y: high, line: { width: 0 }, fill: "tonexty", fillcolor: colour + "33", name: "80% band", showlegend: true },
    { ...line, mode: "lines", y: score, line: { color: colour, width: 2 }, name: "foretold", showlegend: true, hoverinfo: "x+y" },
    {
      type: "scatter", mode: "markers", name: "measured", showlegend: true, x: points.map((p) => p[0]), y: points.map((p) => p[1]),
      error_y: { type: "data", array: points.map((p) => 1.96 * p[2]), color: colour, thickness: 1.5 },
      marker: { symbol, size: 9, color: theme().paper, line: { color: colour, width: 2 } }, hovertemplate: "%{x}: %{y:.2f}<extra>measured</extra>",
    },
  ];
  const shape = layout({ title: "Quality value", range: [Math.min(...shown) - 1, Math.max(...shown) + 1] },
    { title: `VMAF, ${question.statistic}`, range: [Math.max(0, Math.min(...heights) - 1), Math.min(100.5, Math.max(...heights) + 1)] }, 3);
  shape.shapes = [targetLine(question.target)];
  const listed = points.map((p) => `${p[0]} gave ${fixed(p[1], 2)}`).join(", ");
  draw("told-plot", traces, shape, `Foretold ${question.statistic} VMAF by quality value of ${answerName(answer)} with its 80% band, target ${question.target}; measured: ${listed || "nothing"}.`);
}

function drawBracket(question, answer) {
  const mine = question.probes.filter((p) => answer && p.encoder === answer.encoder && p.preset === answer.preset);
  const known = answer && answer.curve ? answer.curve.quality : mine.map((p) => p.quality);
  const ends = [Math.min(...known, ...mine.map((p) => p.quality)), Math.max(...known, ...mine.map((p) => p.quality))];
  const t = theme(), { colour } = answer ? inkOf(answer) : { colour: t.ink };
  const order = range(mine.length).map((i) => i + 1);
  const bars = { type: "bar", name: "still possible", x: order, base: mine.map((p) => p.bracket[0] ?? ends[0]), y: mine.map((p) => (p.bracket[1] ?? ends[1]) - (p.bracket[0] ?? ends[0])), width: 0.3, marker: { color: colour + "55" }, hoverinfo: "skip" };
  const marks = (meets, name, symbol) => {
    const some = order.filter((i) => mine[i - 1].meets === meets);
    return { type: "scatter", mode: "markers", name, x: some, y: some.map((i) => mine[i - 1].quality), text: some.map((i) => fixed(mine[i - 1].score, 2)), hovertemplate: "%{y}: %{text}<extra></extra>", marker: { symbol, size: 12, color: meets ? colour : t.paper, line: { color: colour, width: 2 } } };
  };
  const shape = layout({ title: "Settings measured, in order", dtick: 1 }, { title: "Quality value" }, 3);
  const words = mine.map((p) => `${p.quality} ${p.meets ? "meets" : "misses"} it with ${fixed(p.score, 2)}`).join(", then ");
  draw("bracket-plot", mine.length ? [bars, marks(true, "meets the target", "circle"), marks(false, "misses it", "x")] : [], shape,
    `The bracket closing for target ${question.target}: ${words}.`, answer && answer.cells.length ? "A film by shots has a search of its own for each shot." : "Nothing new was measured for this answer: earlier questions had all of it, or it was foretold.");
}

function drawWindows(question) {
  const some = question.answers.filter((a) => a.windows.length), clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
  const traces = some.flatMap((a) => {
    const { colour, symbol } = inkOf(a), x = a.windows.map((w) => w[0]);
    const text = a.windows.map((w) => `at ${clock(w[0])}: mean ${fixed(w[1], 2)}, lowest frame ${fixed(w[2], 1)}`);
    const one = { type: "scatter", x, text, hovertemplate: `${escaped(answerName(a))} ${valueOf(a)}<br>%{text}<extra></extra>`, legendgroup: answerName(a) };
    return [
      { ...one, mode: "lines+markers", name: escaped(`${answerName(a)} ${valueOf(a)}`), y: a.windows.map((w) => w[1]), line: { color: colour, width: 2 }, marker: { symbol, size: 7, color: colour } },
      { ...one, mode: "lines", name: "lowest frame", showlegend: false, y: a.windows.map((w) => w[2]), line: { color: colour, width: 1, dash: "dot" } },
    ];
  });
  const shape = layout({ title: "Seconds into the film" }, { title: "VMAF of a window" }, some.length);
  if (question.metric === "vmaf") shape.shapes = [targetLine(question.target)];
  const worst = some.map((a) => [a, a.windows.reduce((low, w) => (w[1] < low[1] ? w : low))]);
  draw("window-plot", traces, shape, `VMAF of the film's windows over time: ${worst.map(([a, w]) => `${answerName(a)} is lowest at ${clock(w[0])} with ${fixed(w[1], 2)}`).join("; ")}.`, "No windows were measured at an answer.");
}

function drawEqual(question) {
  const some = question.answers.filter((a) => a.kbps !== null).reverse();
  const span = (a, k) => (a.kbps_interval ? Math.abs(a.kbps_interval[k] - a.kbps) : 0);
  const bar = {
    type: "bar", orientation: "h", showlegend: false, x: some.map((a) => a.kbps), y: some.map((a) => escaped(answerName(a))), marker: { color: some.map((a) => inkOf(a).colour), opacity: some.map((a) => (a.is_measured ? 1 : 0.45)) },
    error_x: { visible: some.some((a) => a.kbps_interval), type: "data", symmetric: false, array: some.map((a) => span(a, 1)), arrayminus: some.map((a) => span(a, 0)), color: theme().ink },
    text: some.map((a) => (a.is_measured ? "" : "foretold")), hovertemplate: "%{y}: %{x:,.0f} kbit/s<extra></extra>",
  };
  const shape = layout({ title: `kbit/s at ${question.statistic} ${question.label} ${question.target}`, rangemode: "tozero" }, { title: "", type: "category" });
  shape.height = 130 + 44 * some.length;
  draw("equal-plot", [bar], shape, `Bitrate of each encoder's answer: ${[...some].reverse().map((a) => `${answerName(a)} ${grouped(a.kbps)} kbit/s`).join(", ")}.`, "There is no answer yet.");
}

function questionTables(question) {
  const meets = ([low, high]) => `${low ?? "–"} meets, ${high ?? "–"} misses`;
  table(byId("probe-table"), "Settings measured for this question, in order", ["Encoder and preset", "Quality value", question.label, "Standard error", "kbit/s", "Windows", "Bracket"],
    question.probes.map((p) => [answerName(p), String(p.quality), fixed(p.score, 2), fixed(p.standard_error, 2), grouped(p.kbps), String(p.num_windows), meets(p.bracket)]));
  table(byId("answer-table"), `Answers for ${titleOf(question)}`, ["Encoder and preset", "Quality value", question.label, "95% interval", "kbit/s", "80% interval", "Encodes", "Ended"],
    question.answers.map((a) => [answerName(a), a.quality === null ? "–" : String(a.quality), fixed(a.score, 2), a.interval ? a.interval.map((v) => fixed(v, 2)).join(" to ") : "–", a.kbps === null ? "–" : grouped(a.kbps), a.kbps_interval ? a.kbps_interval.map(grouped).join(" to ") : "–", String(a.num_encodes), a.is_measured ? a.stop + (a.is_met ? "" : ", not met") : "foretold"]));
}

function drawQuestion() {
  const all = data.questions, newest = all.length - 1;
  options(byId("question"), range(all.length).reverse().map((k) => [k, titleOf(all[k])]));
  const question = all[Number(byId("question").value || newest)];
  options(byId("question-answer"), question.answers.map((a, k) => [k, answerName(a)]));
  const answer = question.answers[Number(byId("question-answer").value || 0)];
  byId("question-said").textContent = answer ? answer.sentences.join(". ") + "." : "The question was stopped before it had an answer; the same command goes on from what was measured.";
  byId("question-command").textContent = answer?.command ?? "";
  drawTold(question, answer);
  drawBracket(question, answer);
  drawWindows(question);
  drawEqual(question);
  questionTables(question);
}
byId("question").addEventListener("change", drawQuestion);
byId("question-answer").addEventListener("change", drawQuestion);
