// The phase space: every head by its effect on the two tasks of the contrast.

const phase = { model: String(best), scale: "asinh" };
const headButton = (m, i) => element("button", { type: "button", onclick: () => openHead(m, i) }, `${models[m].name} ${headName(models[m], i)}`);

withContrast(() => {
  if (!contrast) return leaveOut("phase");
  bringBack("phase");
  $("phase-title").textContent = `Phase space: every head by its effect on ${list(pair.map((t) => t.label))}`;
  if (phase.model !== "" && !models[phase.model].own) phase.model = "";
  // Thousands of weak heads hide the others; those of one model do not.
  const crowded = () => phase.model === "" && contrasted.reduce((n, m) => n + m.own.counts[WEAK], 0) > 2500;
  const familyBoxes = checkboxes("Families", families.map((f) => ({ label: f.name, symbol: f.symbol })), () => drawPhase());
  const categoryBoxes = checkboxes("Categories", categories.map((c, i) => ({ label: c.label, color: c.color, on: i !== WEAK || !crowded() })), () => drawPhase());
  const options = checkboxes("Show", [{ label: "intervals", on: false }], () => drawPhase());
  const modelBox = select("Model", [["", "all"], ...models.map((m, i) => [i, m.name]).filter(([i]) => models[i].own)], phase.model, (v) => choose(v));
  const choose = (m) => {
    phase.model = String(m);
    categoryBoxes.boxes[WEAK].checked = !crowded();
    drawPhase();
  };
  $("phase-model").replaceChildren(modelBox);
  $("phase-controls").replaceChildren(categoryBoxes.node, familyBoxes.node, options.node,
    select("Axes", [["asinh", "logarithmic beyond ±τ"], ["linear", "linear"]], phase.scale, (v) => { phase.scale = v; drawPhase(); }));
  phase.show = (m) => { if (models[m].own) { modelBox.querySelector("select").value = m; choose(m); } };
  phase.chosen = () => ({ inFamily: familyBoxes.chosen(), inCategory: categoryBoxes.chosen(), withIntervals: options.chosen()[0] });
  phase.drawn && drawPhase();
});
onModel.push((m) => phase.show?.(m));

function drawPhase() {
  if (!contrast) return;
  phase.drawn = true;
  const { inFamily, inCategory, withIntervals } = phase.chosen();
  const place = phase.scale === "asinh" ? (v) => Math.asinh(v / tau) : (v) => v;
  const traces = [];
  const shown = [];
  let largest = 0;
  let hiddenWeak = 0;
  // Weak heads lie below the others.
  for (const c of [WEAK, ...categories.keys()].slice(0, categories.length)) {
    families.forEach((family, f) => {
      if (!inFamily[f]) return;
      const trace = { x: [], y: [], text: [], customdata: [], type: "scatter", mode: "markers", name: families.length > 1 && phase.model === "" ? `${categories[c].label}, ${family.name}` : categories[c].label,
        hovertemplate: "%{text}<extra></extra>", marker: { color: color(categories[c].color), symbol: family.symbol, size: c === WEAK ? 5 : 9, opacity: c === WEAK ? (dark() ? 0.75 : 0.5) : 0.85 } };
      const ends = { x: { plus: [], minus: [] }, y: { plus: [], minus: [] } };
      models.forEach((model, m) => {
        if (!model.own || model.family !== family.name || (phase.model !== "" && Number(phase.model) !== m)) return;
        model.heads.layer.forEach((_, i) => {
          if (cell(model, "category", i) !== c) return;
          if (!inCategory[c]) { hiddenWeak += c === WEAK; return; }
          const at = SIDES.map((task) => cell(model, task + "_delta", i));
          trace.x.push(place(at[0]));
          trace.y.push(place(at[1]));
          trace.text.push(hover(model, i));
          trace.customdata.push([m, i]);
          largest = Math.max(largest, Math.abs(at[0]), Math.abs(at[1]));
          shown.push({ m, i, at, strength: Math.abs(at[0]) + Math.abs(at[1]) });
          ["x", "y"].forEach((side, t) => {
            const [low, high] = ["_low", "_high"].map((end) => cell(model, SIDES[t] + end, i));
            ends[side].plus.push(known(high) ? place(high) - place(at[t]) : 0);
            ends[side].minus.push(known(low) ? place(at[t]) - place(low) : 0);
          });
        });
      });
      if (!trace.x.length) return;
      if (withIntervals) {
        for (const side of ["x", "y"]) {
          trace["error_" + side] = { type: "data", symmetric: false, array: ends[side].plus, arrayminus: ends[side].minus, thickness: 0.7, width: 0, color: trace.marker.color };
        }
      }
      traces.push(trace);
    });
  }
  shown.sort((a, b) => b.strength - a.strength);
  const line = (shape) => ({ type: "line", line: { color: guide(), width: 1, dash: "dash" }, layer: "below", ...shape });
  const shapes = [-tau, tau].flatMap((t) => [
    line({ xref: "paper", x0: 0, x1: 1, y0: place(t), y1: place(t) }), line({ yref: "paper", y0: 0, y1: 1, x0: place(t), x1: place(t) })]);
  // Both axes reach beyond ±τ, however weak the heads are.
  const reach = (side) => {
    const far = traces.flatMap((t) => t[side]).concat(place(2 * tau), place(-2 * tau));
    const error = "error_" + side;
    const ends = traces.flatMap((t) => (t[error] ? t[side].flatMap((v, i) => [v - t[error].arrayminus[i], v + t[error].array[i]]) : []));
    const [low, high] = far.concat(ends).reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [0, 0]);
    return [low - 0.08 * (high - low), high + 0.08 * (high - low)];
  };
  const ticks = phase.scale === "asinh" ? effectTicks(largest) : {};
  // The strongest heads of one model are named.
  const [width, height] = ["x", "y"].map((side) => { const [low, high] = reach(side); return high - low; });
  const apart = (a, b) => Math.hypot((place(a.at[0]) - place(b.at[0])) / width, (place(a.at[1]) - place(b.at[1])) / height) > 0.11;
  const named = [];
  for (const head of phase.model === "" ? [] : shown) {
    if (named.length < 5 && cell(models[head.m], "category", head.i) !== WEAK && named.every((other) => apart(head, other))) named.push(head);
  }
  // Names point inwards, so that none is cut off.
  const inwards = (at, k) => {
    const [low, high] = reach("x");
    const share = (place(at[0]) - low) / (high - low);
    return share > 0.75 ? -26 : share < 0.25 ? 26 : [24, -24, 26, -26, 0][k];
  };
  const annotations = named.map(({ m, i, at }, k) => ({ x: place(at[0]), y: place(at[1]), text: headName(models[m], i), showarrow: true, arrowhead: 0, arrowwidth: 0.6,
    arrowcolor: guide(), ax: inwards(at, k), ay: [-14, -16, 14, 16, -24][k], font: { size: 11 } }));
  // On a phone the boxes above say what colours and signs mean.
  Plotly.react("phase-plot", traces, layout({ shapes, annotations, showlegend: true, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", itemsizing: "constant" },
    xaxis: axis(`Δ ${pair[0].label} (logits)`, { ...ticks, range: reach("x") }), yaxis: axis(`Δ ${pair[1].label} (logits)`, { ...ticks, range: reach("y") }), uirevision: phase.scale + phase.model + contrast.name }), config);
  const of = phase.model === "" ? nHeads : models[phase.model].heads.layer.length;
  const all = of === 1 ? "The one head" : `All ${count(of)} heads`;
  $("phase-note").textContent = (shown.length === of ? all : `${count(shown.length)} of ${counted(of, "head", "heads")}`) + ` of ${phase.model === "" ? counted(models.length, "model", "models") : models[phase.model].name}` +
    (hiddenWeak ? `; ${counted(hiddenWeak, "weak head is", "weak heads are")} hidden (tick “weak” to see them)` : "") +
    `. Dashed: ±τ = ±${tau} logits: beyond it on both axes a head is shared, on one it belongs to that task. Lower left: the head helps both tasks.`;
  fillTable($("phase-table"), [{ title: "head", words: true }, { title: "category", words: true }, ...pair.map((t) => ({ title: "Δ " + t.label }))],
    shown.slice(0, 20).map(({ m, i }) => ({ cells: [headButton(m, i), categories[cell(models[m], "category", i)].label,
      ...SIDES.map((task) => signed(cell(models[m], task + "_delta", i)) + range(cell(models[m], task + "_low", i), cell(models[m], task + "_high", i)))] })));
}
function phaseSection() {
  plot(drawPhase);
  $("phase-plot").on("plotly_click", (event) => openHead(...event.points[0].customdata));
}
