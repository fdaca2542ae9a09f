"use strict";
/* The section on roles and self-repair, and what a head's card says of its roles. */
const headRoles = (() => {
  const study = JSON.parse(document.getElementById("study").textContent);
  const { models, tasks, roles } = study;
  const $ = (id) => document.getElementById(id);
  const number = (v, digits = 2) => (v === null || v === undefined ? "–" : (v < 0 ? "−" : "") + Math.abs(v).toFixed(digits));
  const taskLabel = (place) => (place === null ? "repeated random tokens" : tasks[place].label);
  const node = (tag, attributes, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const table = (box, titles, rows) => box.replaceChildren(
    node("thead", {}, node("tr", {}, ...titles.map((title, i) => node("th", i < 3 ? { scope: "col", class: "words" } : { scope: "col" }, title)))),
    node("tbody", {}, ...rows.map((row) => node("tr", {}, ...row.map((cell, i) => node("td", i < 3 || i === row.length - 1 ? { class: "words" } : {}, cell))))),
  );

  /** A head's score, in bold where it plays the role. */
  const best = ([layer, head, [value, low, high], plays]) => {
    const words = node(plays ? "strong" : "span", { class: "nowrap" }, `L${layer}H${head} ${number(value)}`);
    if (low !== null && high !== null) words.setAttribute("title", `95% interval ${number(low)} to ${number(high)}`);
    return words;
  };

  const measured = models.filter((model) => model.roles);
  const repaired = models.filter((model) => model.repair.some((r) => r));
  if (measured.length) {
    const show = (model) => table($("role-table"), ["role", "read on", "score", "heads", "of", "best heads"], model.roles.counts.map((c) => [
      roles[c.role].label, taskLabel(c.task), roles[c.role].is_share ? "share of attention" : "logits",
      String(c.n), String(c.n_heads), node("span", {}, ...c.best.flatMap((b, i) => (i ? [", ", best(b)] : [best(b)]))),
    ]));
    const box = node("select", {}, ...measured.map((model, i) => node("option", { value: i }, model.name)));
    box.addEventListener("change", () => show(measured[box.value]));
    $("role-controls").replaceChildren(node("label", {}, "Model ", box));
    show(measured[0]);
  } else {
    $("role-note").textContent = "Which roles heads play was not measured in this run.";
  }
  const percent = (v) => (v === null ? "–" : number(100 * v, 0) + "%");
  const repair = (r) => (r ? `${percent(r[0])}${r[1] === null ? "" : ` [${percent(r[1])}, ${percent(r[2])}]`} (${r[3]} heads)` : "–");
  if (repaired.length) {
    $("repair-table").replaceChildren(
      node("thead", {}, node("tr", {}, node("th", { scope: "col", class: "words" }, "model"), ...tasks.map((t) => node("th", { scope: "col" }, t.label)))),
      node("tbody", {}, ...repaired.map((model) => node("tr", {}, node("td", { class: "words" }, model.name), ...model.repair.map((r) => node("td", {}, repair(r)))))),
    );
  } else {
    $("repair-note").textContent = "Direct effects that compare with Δ were not measured in this run.";
  }

  if (!measured.length && !repaired.length) {
    $("roles").remove();
    document.querySelector('a[href="#roles"]').remove();
  }

  /** The roles that head `i` of a model plays, as a paragraph for its card; nothing where roles were not measured. */
  return (model, i) => {
    if (!model.roles) return [];
    const played = model.roles.heads[i].map(([role, task, score]) => `${roles[role].label} (${number(score)}${roles[role].is_share ? "" : " logits"}, ${taskLabel(task)})`);
    return [node("p", { class: "note" }, played.length ? `Roles: ${played.join("; ")}.` : "It plays none of the roles that are scored.")];
  };
})();
