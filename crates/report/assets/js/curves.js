// Measures against size, and sets of hero heads against random ones.

// ---- Change with size ---------------------------------------------------------------------------------------------

const scaling = { title: null };
/** What can be drawn against size: {title, of, interval, law}. */
function measures() {
  const all = [];
  if (contrast) {
    const labels = pair.map((t) => t.label);
    const [onlyB, onlyA, shared] = categories;
    const named = [
      ["held_out_corr", "Pearson, held out", "held_out_pearson"], ["held_out_spearman", "Spearman, held out", "held_out_spearman"],
      ["corr_disattenuated", "Pearson, without noise", "disattenuated"],
      ...[onlyA, onlyB, shared].map((c) => ["n_" + c.name, c.label + " heads"]),
      ...[onlyA, onlyB, shared].map((c) => ["frac_" + c.name, `share of ${c.label} heads`]),
      ...[onlyA, onlyB, shared].map((c) => ["frac_relative_" + c.name, `share of ${c.label} heads, relative thresholds`]),
      ["n_strong", "heads that are not weak"],
      ...contrast.keys.flatMap((k, t) => [[`top_1pct_share_${k}`, `share of Σ|Δ ${labels[t]}| in the top 1% of heads`], [`top_5pct_share_${k}`, `share of Σ|Δ ${labels[t]}| in the top 5% of heads`]]),
      ...contrast.keys.map((k, t) => [`participation_fraction_${k}`, `participation fraction, ${labels[t]}`]),
      ...[onlyA, onlyB, shared].map((c) => ["mean_relative_depth_" + c.name, `mean depth of ${c.label} heads`]),
    ];
    const measure = ([law, title, interval]) => {
      const at = contrast.measures.indexOf(law);
      return { title, law, interval, of: (m) => m.own?.values[at] };
    };
    all.push(...[["corr", `Pearson, Δ ${labels.join(" and Δ ")}`, "pearson"], ["spearman", `Spearman, Δ ${labels.join(" and Δ ")}`, "spearman"], ...named].map(measure));
  }
  if (study.findings.length) {
    const ofTask = [["frac_strong", "share of heads with |Δ| ≥ τ"], ["top_5pct_share", "share of Σ|Δ| in the top 5% of heads"], ["participation_fraction", "participation fraction"]];
    all.push(...tasks.flatMap((t, at) => ofTask.map(([name, title]) => ({ title: `${t.label}: ${title}`, of: (m) => m.measures[at]?.[name] }))));
  }
  return all.filter(({ of }) => models.some((m) => known(of(m)) && known(m.params_m)));
}

function scalingSection() {
  withContrast(() => {
    scaling.measures = measures();
    $("scaling-plot").hidden = !scaling.measures.length;
    if (!scaling.measures.length) {
      $("scaling-note").textContent = "No model's size is known: nothing can be drawn against it.";
      return;
    }
    if (!scaling.measures.some((m) => m.title === scaling.title)) scaling.title = scaling.measures[0].title;
    $("scaling-controls").replaceChildren(select("Measure", scaling.measures.map((m) => [m.title, m.title]), scaling.title, (v) => { scaling.title = v; drawScaling(); }));
    drawScaling();
  });
  redraws.push(drawScaling);
}

function drawScaling() {
  if (!scaling.measures.length) return;
  const { title, of, law: lawOf, interval } = scaling.measures.find((m) => m.title === scaling.title);
  const ends = (m) => (interval ? m.own[interval] : []);
  const traces = families.map((family, f) => {
    // Points of the same size would hide each other; the text says the true size.
    const shift = 10 ** (0.012 * (f - (families.length - 1) / 2));
    const own = models.filter((m) => m.family === family.name && known(m.params_m) && known(of(m)));
    const tint = color(family.color);
    const trace = { x: own.map((m) => m.params_m * shift), y: own.map(of), type: "scatter", mode: own.length > 1 ? "lines+markers" : "markers", name: family.name,
      text: own.map((m) => `<b>${escape(m.name)}</b> (${size(m.params_m)})<br>${fixed(of(m))}${range(ends(m)[1], ends(m)[2])}`),
      hovertemplate: "%{text}<extra></extra>", line: { color: tint, width: 1.5 }, marker: { color: tint, symbol: family.symbol, size: 10 } };
    if (interval) {
      trace.error_y = { type: "data", symmetric: false, color: tint, thickness: 1.3, width: 0,
        array: own.map((m) => (known(ends(m)[2]) ? ends(m)[2] - ends(m)[0] : 0)), arrayminus: own.map((m) => (known(ends(m)[1]) ? ends(m)[0] - ends(m)[1] : 0)) };
    }
    return trace;
  }).filter((t) => t.x.length);
  const bounds = interval ? { range: [-1.05, 1.05] } : { rangemode: "tozero" };
  Plotly.react("scaling-plot", traces, layout({ xaxis: sizeAxis(models.filter((m) => known(m.params_m)).map((m) => m.params_m)), yaxis: axis(title, bounds), showlegend: true }), config);
  const law = contrast?.laws[lawOf];
  $("scaling-note").textContent = (interval && contrast.intervals_over ? `Bars: 95% intervals over ${contrast.intervals_over}. ` : "This measure has no interval. ") + (law && known(law.slope)
    ? `Pooled over families, with an intercept for each: ${signed(law.slope)}${range(law.low, law.high)} with each tenfold size (n = ${counted(law.n, "model", "models")}, q = ${fixed(law.q)}).`
    : "No line is fitted: too few models or sizes.") + (law?.left_out.length ? ` Left out, without this measure or a size: ${list(law.left_out)}.` : "");
}

// ---- Hero heads against random heads ------------------------------------------------------------------------------

const ablation = { model: models[best].name, selection: null, task: 0, measure: 0 };
const ABLATION_MEASURES = [["mean_diff", "correct − mean of the other names", "difference (logits)"], ["acc", "accuracy", "accuracy"], ["interaction", "Δ of the set − sum of its heads' Δ", "interaction (logits)"]];
const plainSelection = (selection) => (selection === "all" ? "all categories" : selection.replace(/_/g, "-"));

function ablationSection() {
  withContrast(() => {
    if (!contrast) return leaveOut("ablation");
    bringBack("ablation");
    const curves = contrast.ablation;
    $("ablation-plot").hidden = !curves.length;
    $("ablation-controls").replaceChildren();
    if (!curves.length) {
      $("ablation-note").textContent = "Not measured in this run (circuit-scaling ablate).";
      return;
    }
    const unique = (key, of) => [...new Set(of.map((c) => c[key]))];
    const named = unique("model", curves);
    const selections = unique("selection", curves.filter((c) => c.kind === "hero"));
    if (!named.includes(ablation.model)) ablation.model = named[0];
    if (!selections.includes(ablation.selection)) ablation.selection = selections[0];
    const choose = (key, of = (v) => v) => (v) => { ablation[key] = of(v); drawAblation(); };
    const modelBox = select("Model", named.map((m) => [m, m]), ablation.model, choose("model"));
    $("ablation-controls").replaceChildren(modelBox,
      select("Hero heads from", selections.map((s) => [s, plainSelection(s)]), ablation.selection, choose("selection")),
      select("Task", pair.map((t, i) => [i, t.label]), ablation.task, choose("task", Number)),
      select("Measure", ABLATION_MEASURES.map((m, i) => [i, m[1]]), ablation.measure, choose("measure", Number)));
    ablation.show = (m) => { if (named.includes(m)) { ablation.model = m; modelBox.querySelector("select").value = m; drawAblation(); } };
    drawAblation();
  });
  onModel.push((m) => ablation.show?.(models[m].name));
  redraws.push(drawAblation);
}

function drawAblation() {
  const curves = contrast?.ablation ?? [];
  if (!curves.length) return;
  const [measure, , title] = ABLATION_MEASURES[ablation.measure];
  const key = `${measure}_${["a", "b"][ablation.task]}`;
  const own = curves.filter((c) => c.model === ablation.model && c.selection === ablation.selection);
  // Kinds of sets stand a little apart, so that their bars do not hide each other.
  const styles = { hero: ["hero heads", pair[ablation.task].color, "solid", 1.015, "circle"], random: ["random heads", "#777777", "dash", 0.985, "square"],
    random_matched: ["random heads of the same layers", "#777777", "dot", 1, "diamond"] };
  const traces = own.filter((c) => styles[c.kind]).map((c) => {
    const [name, hex, dash, shift, symbol] = styles[c.kind];
    const tint = color(hex);
    const [y, low, high] = [key, key + "_low", key + "_high"].map((k) => c[k]);
    return { x: c.k.map((k) => k * shift), customdata: c.k, hovertemplate: "%{customdata} ablated: %{y:.3f}", y, name, type: "scatter", mode: "lines+markers", line: { color: tint, dash }, marker: { color: tint, size: 7, symbol },
      error_y: { type: "data", symmetric: false, color: tint, width: 0, thickness: 1, array: y.map((v, i) => (known(high[i]) ? high[i] - v : 0)), arrayminus: y.map((v, i) => (known(low[i]) ? v - low[i] : 0)) } };
  });
  const sizes = traces.flatMap((t) => t.customdata);
  const base = own.find((c) => c.kind === "baseline") ?? curves.find((c) => c.model === ablation.model && c.kind === "baseline");
  const shapes = base && known(base[key][0]) ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: base[key][0], y1: base[key][0], line: { color: ink(), width: 1, dash: "dash" } }] : [];
  Plotly.react("ablation-plot", traces, layout({ shapes, xaxis: axis("heads ablated (log scale)", { type: "log", range: [Math.log10(Math.min(...sizes) / 1.2), Math.log10(Math.max(...sizes) * 1.2)], tickvals: traces[0]?.customdata, ticktext: traces[0]?.customdata.map(String) }), yaxis: axis(`${pair[ablation.task].label}: ${title}`, measure === "acc" ? { range: [-0.02, 1.02] } : {}), showlegend: true }), config);
  $("ablation-note").textContent = `${ablation.model}, ${pair[ablation.task].label}, hero heads from ${plainSelection(ablation.selection)}; over ${contrast.ablation_prompts}. Hero heads are the strongest by |Δ ${pair[0].label}| + |Δ ${pair[1].label}|, of all categories or of one. Dashed line across: nothing ablated. ` +
    "Bars of hero heads: 95% intervals over prompts; of random heads, drawn from all heads or from the same layers: the middle 95% of the sets." + (measure === "acc" ? " " + study.accuracy : "");
}
