// The opening: beside the answer in words, three numbers of every model, and the picture that the answer is read from.

/** The model that plots open on. */
const best = study.best;

/** An estimate with its interval, as a mark on a line between two ends; several marks stand for several tasks. */
function strip(marks, [low, high], label) {
  const [width, height] = [120, 18];
  const at = (v) => 5 + (width - 10) * (Math.min(high, Math.max(low, v)) - low) / (high - low);
  const line = (x1, x2, attributes) => svg("line", { x1, x2, y1: height / 2, y2: height / 2, ...attributes });
  const parts = [line(5, width - 5, { class: "rail" })];
  if (low < 0 && high > 0) parts.push(svg("line", { x1: at(0), x2: at(0), y1: 1, y2: height - 1, class: "zero" }));
  marks.forEach(({ value, ends, symbol = "circle", hollow, tint }) => {
    if (!known(value)) return;
    if (ends && known(ends[0]) && known(ends[1])) parts.push(line(at(ends[0]), at(ends[1]), { class: "ends" }));
    parts.push(svg("path", { d: SIGNS[symbol], transform: `translate(${at(value) - 5} ${height / 2 - 5})`, class: hollow ? "mark hollow" : "mark", style: tint && `--tint: ${tint}` }));
  });
  return svg("svg", { class: "strip", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts);
}

/** The three numbers that say most of a model: of the contrast, of one task, or of many. */
function numbersOfModels() {
  const sharedOf = (m) => {
    const strong = m.own?.counts.slice(0, WEAK).reduce((a, b) => a + b, 0);
    const shared = categories.findIndex((c) => c.name === "shared");
    return strong ? m.own.counts[shared] / strong : null;
  };
  const accuracy = { title: "accuracy", ends: [0, 1], show: (marks) => marks.map((mark) => percent(mark.value, 0)).join(" · "),
    of: (m) => (contrast ? contrast.sides : tasks.map((_, t) => t)).map((t, k) => ({ value: m.baselines[t]?.accuracy, symbol: k ? "square" : "circle", hollow: k > 0 })) };
  const one = (title, ends, of, show) => ({ title, ends, of: (m) => [of(m)], show: ([mark]) => show(mark) });
  const ranged = ([value, ...ends] = []) => ({ value, ends });
  const figure = ({ value, ends = [] }) => fixed(value, 2) + range(...ends, 2);
  const share = ({ value }) => percent(value, 0);
  const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : null);
  if (tasks.length === 1) {
    return [accuracy, one(`heads with |Δ| ≥ ${tau}`, [0, 1], (m) => ({ value: m.measures[0]?.frac_strong }), share),
      one("Σ|Δ| in its top 5%", [0, 1], (m) => ({ value: m.measures[0]?.top_5pct_share }), share)];
  }
  if (study.overlaps.length && picked === null) {
    // What heads do for a task that their model does not do says little.
    const isDone = (m) => (t) => !m.not_done.includes(tasks[t].label);
    const pairs = (m) => study.overlaps.filter((o) => models[o.model] === m && o.tasks.every(isDone(m)));
    return [one("tasks done", [0, tasks.length], (m) => ({ value: tasks.length - m.not_done.length }), ({ value }) => `${value} of ${tasks.length}`),
      one("mean r over pairs of tasks done", [-1, 1], (m) => ({ value: mean(pairs(m).map((o) => o.pearson[0]).filter(known)) }), ({ value }) => fixed(value, 2)),
      one("mean share of strong heads in common", [0, 1], (m) => ({ value: mean(pairs(m).map((o) => o.jaccard[0]).filter(known)) }), share)];
  }
  if (!contrast) return [];
  const last = contrasted.some((m) => known(m.own.dissociation?.[0])) ? one("index of dissociation", [0, 1], (m) => ranged(m.own?.dissociation ?? []), figure)
    : { ...accuracy, title: `accuracy: ● ${pair[0].label}, □ ${pair[1].label}` };
  return [one("r of Δ on the two tasks", [-1, 1], (m) => ranged(m.own?.pearson), figure),
    one("strong heads that are shared", [0, 1], (m) => ({ value: sharedOf(m) }), share), last];
}

withContrast(() => {
  const panels = numbersOfModels().filter((panel) => models.some((m) => panel.of(m).some((mark) => known(mark.value))));
  $("numbers").hidden = !panels.length;
  if (!panels.length) return;
  const hasEnds = models.some((m) => panels.some((panel) => panel.of(m).some((mark) => known(mark.ends?.[0]))));
  $("numbers-click").hidden = models.length < 2;
  $("numbers-note").textContent = hasEnds ? "Lines: 95% intervals." : "";
  const cells = (m) => panels.map((panel) => {
    const marks = panel.of(m);
    const text = panel.show(marks);
    return element("td", {}, strip(marks, panel.ends, `${m.name}: ${panel.title} ${text}`), element("span", { class: "figure" }, text));
  });
  const name = (m, i) => element("td", { class: "words" },
    element("button", { type: "button", title: `Show ${m.name} in the plots`, onclick: () => chooseModel(i) }, m.name),
    m.not_done.length ? element("span", { class: "lacks" }, notDone(m)) : null);
  const ends = ([low, high]) => element("span", { class: "scale", "aria-hidden": "true" }, element("span", {}, fixed(low, 0)), element("span", {}, fixed(high, 0)));
  $("numbers-table").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col", class: "words" }, models.length > 1 ? "model" : ""),
      ...panels.map((panel) => element("th", { scope: "col" }, panel.title, ends(panel.ends))))),
    element("tbody", {}, ...models.map((m, i) => element("tr", { class: m.not_done.length ? "quiet" : i === best && models.length > 1 && "best" }, name(m, i), ...cells(m)))));
});

// ---- The picture of one task: its strongest heads -----------------------------------------------------------------

function strongestSection() {
  const state = { model: best };
  const draw = () => {
    const model = models[state.model];
    const delta = (i) => cell(model, "t0_delta", i);
    const order = model.heads.layer.map((_, i) => i).filter((i) => known(delta(i))).sort((a, b) => Math.abs(delta(b)) - Math.abs(delta(a))).slice(0, 12);
    const values = order.flatMap((i) => ["_delta", "_low", "_high", "_direct"].map((c) => cell(model, "t0" + c, i)).filter(known));
    const ends = [Math.min(0, ...values), Math.max(0, ...values)];
    const hasDirect = order.some((i) => known(cell(model, "t0_direct", i)));
    const row = (i) => {
      const [low, high] = [cell(model, "t0_low", i), cell(model, "t0_high", i)];
      const marks = [{ value: cell(model, "t0_direct", i), symbol: "diamond", hollow: true }, { value: delta(i), ends: [low, high] }];
      return element("tr", {}, element("td", { class: "words" }, headButton(state.model, i)),
        element("td", {}, strip(marks, ends, `Δ ${signed(delta(i))}`)), element("td", {}, signed(delta(i)) + range(low, high)));
    };
    $("strongest-table").replaceChildren(element("tbody", {}, ...order.map(row)));
    $("strongest-note").textContent = `${model.name}, ${tasks[0].label}. ●: Δ with its 95% interval` + (hasDirect ? "; ◇: the head's direct effect" : "") +
      `. The axis goes from ${signed(ends[0], 2)} to ${signed(ends[1], 2)} logits. Negative: the head helps.`;
  };
  $("strongest-controls").append(select("Model", models.map((m, i) => [i, m.name]), best, (v) => { state.model = Number(v); draw(); }));
  onModel.push((m) => { state.model = m; $("strongest-controls").querySelector("select").value = m; draw(); });
  draw();
}

// ---- The picture of many tasks: every one against every other -----------------------------------------------------

function overlapSection() {
  const state = { model: study.overlaps.some((o) => o.model === best) ? best : study.overlaps[0].model };
  const draw = () => {
    const own = study.overlaps.filter((o) => o.model === state.model);
    const model = models[state.model];
    const of = (a, b) => own.find((o) => o.tasks.includes(a) && o.tasks.includes(b));
    const shaded = (value, tint, figure, place) => element("td", { class: "shade", style: `background: color-mix(in srgb, ${color(tint)} ${Math.round(55 * Math.abs(value ?? 0))}%, transparent)` },
      place < 0 ? fixed(figure[0], 2) : element("button", { type: "button", title: `Show ${contrastLabel(study.contrasts[place])} in every plot`, onclick: () => chooseContrast(place) }, fixed(figure[0], 2)), element("span", { class: "nowrap" }, range(figure[1], figure[2], 2)));
    const shown = (row, column) => {
      if (row === column) return element("td", { class: "diagonal" }, whole(model.measures[row]?.n_strong));
      const found = of(row, column);
      if (!found) return element("td", {}, "–");
      const place = study.contrasts.findIndex((c) => c.sides.includes(row) && c.sides.includes(column));
      return row < column ? shaded(found.pearson[0], found.pearson[0] < 0 ? "#2166ac" : "#b2182b", found.pearson, place) : shaded(found.jaccard[0], "#cc79a7", found.jaccard, place);
    };
    const label = (t) => t.label + (model.not_done.includes(t.label) ? " †" : "");
    const header = element("tr", {}, element("th", {}, ""), ...tasks.map((t) => element("th", { scope: "col" }, label(t))));
    const rows = tasks.map((t, row) => element("tr", {}, element("th", { scope: "row" }, label(t)), ...tasks.map((_, column) => shown(row, column))));
    $("overlap-table").replaceChildren(element("thead", {}, header), element("tbody", {}, ...rows));
    const most = Math.max(0, ...own.map((o) => o.n_heads));
    $("overlap-note").textContent = `${model.name}: ${counted(most, "head", "heads")}, τ = ${tau} logits.` + (model.not_done.length ? ` † It ${notDone(model)}.` : "");
    $("overlap-click").textContent = study.contrasts.length > 1 ? "Underlined: click to see the two tasks in every plot." : "";
  };
  const withAny = [...new Set(study.overlaps.map((o) => o.model))];
  const box = select("Model", withAny.map((m) => [m, models[m].name]), state.model, (v) => { state.model = Number(v); draw(); });
  $("overlap-controls").append(box);
  onModel.push((m) => { if (withAny.includes(m)) { state.model = m; box.querySelector("select").value = m; draw(); } });
  plot(draw);
}

/** What follows when a model is chosen for every plot. */
const onModel = [];
const showModel = (m) => onModel.forEach((show) => show(m));
