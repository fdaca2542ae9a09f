// Roles of heads, and self-repair.

const taskLabel = (place) => (place === null ? "repeated random tokens" : tasks[place].label);

function rolesSection() {
  const measured = models.filter((model) => model.roles);
  const repaired = models.filter((model) => model.repair.some(known));
  if (!measured.length && !repaired.length) return leaveOut("roles");
  /** A head's score, in bold where it plays the role. */
  const head = ([layer, head, [value, low, high], plays]) => element(plays ? "strong" : "span",
    { class: "nowrap", title: known(low) && known(high) ? `95% interval ${fixed(low, 2)} to ${fixed(high, 2)}` : null }, `L${layer}H${head} ${fixed(value, 2)}`);
  if (measured.length) {
    const columns = ["role", "read on", "score"].map((title) => ({ title, words: true })).concat([{ title: "heads" }, { title: "of" }, { title: "best heads", words: true }]);
    const show = (model) => fillTable($("role-table"), columns, model.roles.map((c) => ({ cells: [study.roles[c.role].label, taskLabel(c.task),
      study.roles[c.role].is_share ? "share of attention" : "logits", String(c.n), String(c.n_heads), element("span", {}, ...c.best.flatMap((b, i) => (i ? [", ", head(b)] : [head(b)])))] })));
    const first = Math.max(0, measured.indexOf(models[best]));
    const box = select("Model", measured.map((m, i) => [i, m.name]), first, (v) => show(measured[v]));
    $("role-controls").append(box);
    onModel.push((m) => { const at = measured.indexOf(models[m]); if (at >= 0) { box.querySelector("select").value = at; show(models[m]); } });
    show(measured[first]);
  } else {
    $("role-note").textContent = "Which roles heads play was not measured in this run.";
  }
  const repair = (r) => (r ? `${percent(r[0], 0)}${known(r[1]) ? ` [${percent(r[1], 0)}, ${percent(r[2], 0)}]` : ""} (${counted(r[3], "head", "heads")})` : "–");
  if (repaired.length) {
    fillTable($("repair-table"), [{ title: "model", words: true }, ...tasks.map((t) => ({ title: t.label }))], repaired.map((m) => ({ cells: [m.name, ...m.repair.map(repair)] })));
  } else {
    $("repair-note").textContent = "Direct effects that compare with Δ were not measured in this run.";
  }
}
