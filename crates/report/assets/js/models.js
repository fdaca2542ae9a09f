// Everything in words, folded by topic, and the table of models.

const findings = (all) => all.map((f) => folded(f.title, element("p", {}, f.text + " ", ...f.sources.flatMap((s, i) => [i ? " " : "", element("code", {}, s)]))));

$("task-findings").append(...findings(study.findings));
$("limits").append(...study.limits.map((text) => element("li", {}, text)));
withContrast(() => {
  $("findings").replaceChildren(...findings(contrast?.findings ?? []));
  $("contrast-title").hidden = !contrast || !study.findings.length;
  $("contrast-title").textContent = list(pair.map((t) => t.label));
});

if (study.contrasts.length > 1) {
  const options = study.contrasts.map((c, i) => [i, contrastLabel(c)]);
  const box = select("Contrast", options, 0, (place) => chooseContrast(Number(place)));
  $("contrast-choice").append(box);
  withContrast(() => { box.querySelector("select").value = study.contrasts.indexOf(contrast); });
}

withContrast(() => {
  // Columns that no model has a value for are left out.
  const columns = [
    { title: "model", words: true, sort: (m) => m.name, show: (m) => m.name + (m.not_done.length ? " *" : "") },
    { title: "family", words: true, sort: (m) => m.family, show: (m) => m.family },
    { title: "size", sort: (m) => m.params_m, show: (m) => size(m.params_m) },
    { title: "layers × heads", sort: (m) => m.n_layers * m.n_heads, show: (m) => `${m.n_layers} × ${m.n_heads}` },
    ...tasks.map((t, i) => ({ title: "accuracy " + t.label, sort: (m) => m.baselines[i]?.accuracy, show: (m) => percent(m.baselines[i]?.accuracy) })),
    ...(study.findings.length ? tasks.map((t, i) => ({ title: "heads at τ, " + t.label, sort: (m) => m.measures[i]?.n_strong, show: (m) => whole(m.measures[i]?.n_strong) })) : []),
    ...categories.map((c, i) => ({ title: c.label, sort: (m) => m.own?.counts[i], show: (m) => whole(m.own?.counts[i]) })),
    ...categories.map((c, i) => ({ title: "relative: " + c.label, sort: (m) => m.own?.relative_counts?.[i], show: (m) => whole(m.own?.relative_counts?.[i]) })),
    { title: "not stable", sort: (m) => m.own?.n_unstable, show: (m) => whole(m.own?.n_unstable) },
    { title: "r", sort: (m) => m.own?.pearson[0], show: (m) => withRange(m.own?.pearson) },
    { title: "r over templates", sort: (m) => m.own?.pearson_templates[1], show: (m) => range(m.own?.pearson_templates[1], m.own?.pearson_templates[2], 2).trim() || "–" },
    { title: "r without noise", sort: (m) => m.own?.disattenuated[0], show: (m) => withRange(m.own?.disattenuated) },
    { title: "r, held out", sort: (m) => m.own?.held_out_pearson[0], show: (m) => withRange(m.own?.held_out_pearson) },
  ].filter((column) => models.some((m) => known(column.sort(m))));
  fillTable($("model-table"), columns, models.map((m) => ({ item: m, cells: columns.map((column) => column.show(m)) })));
  const said = ["Intervals are 95% intervals."];
  if (contrast) {
    said.push(`r is Pearson's correlation between Δ ${pair[0].label} and Δ ${pair[1].label} over a model's heads; over templates: what prompts of other templates ` +
      "would give for the model; without noise: corrected for the noise with which effects are measured. Relative categories: |Δ| of at least 5% of the model's own " +
      "mean logit difference on the task, where it does both tasks. A head's category is not stable if resampling the prompts changes it with a probability above 5%.");
    if (contrast.intervals_over) said.push(`Intervals of r are over ${contrast.intervals_over}.`);
  }
  if (columns.some((column) => column.title.startsWith("accuracy"))) said.push(study.accuracy);
  const lacking = tasks.length === 2 && contrast ? contrast.not_done : models.some((m) => m.not_done.length) && "The model does not do one of the tasks.";
  if (lacking) said.push(`* ${lacking}`);
  $("model-note").textContent = said.join(" ");
});
