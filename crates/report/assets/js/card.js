// A head's card: what it is, what ablating it does beside all other heads, what it reads, and further numbers.

/** Places of a model's heads by |Δ|, from 1; computed when first asked for. */
function ranks(model, task) {
  model.ranks ??= {};
  if (!model.ranks[task]) {
    const deltas = model.heads[task + "_delta"] ?? [];
    const order = deltas.map((_, i) => i).filter((i) => known(deltas[i]));
    order.sort((a, b) => Math.abs(deltas[b]) - Math.abs(deltas[a]));
    model.ranks[task] = { of: new Map(order.map((i, rank) => [i, rank + 1])), n: order.length };
  }
  return model.ranks[task];
}

/** In a sentence or three: category, roles, and what the model does not do. */
function cardWords(model, i) {
  const said = [];
  const category = cell(model, "category", i);
  if (contrast) {
    const probability = cell(model, "probability", i);
    const heldOut = cell(model, "held_out_category", i);
    const relative = cell(model, "relative_category", i);
    said.push(!known(category) ? `Not measured on both ${pair[0].label} and ${pair[1].label}: no category.`
      : `Category: ${categories[category].label}` + (known(probability) ? `, with probability ${fixed(probability, 2)} under resampled prompts` : "") +
        (known(heldOut) ? `; on held-out prompts: ${categories[heldOut].label}` : "") + "." +
        (known(relative) ? ` At ${fixed(100 * study.relative_tau, 0)}% of the model's own logit differences: ${categories[relative].label}.` : ""));
  }
  if (model.played) {
    const played = model.played[i].map(([role, task, score]) => `${study.roles[role].label} (${fixed(score / 1000, 2)}${study.roles[role].is_share ? "" : " logits"}, ${taskLabel(task)})`);
    said.push(played.length ? `Roles: ${played.join("; ")}.` : "It plays none of the roles that are scored.");
  }
  if (model.not_done.length) said.push(`This model ${notDone(model)}.`);
  return said.join(" ");
}

/** Δ of every head of the model on a task as ticks on one line, this head's Δ and direct effect among them. */
function rug(model, task, i) {
  const [width, height] = [300, 34];
  const deltas = (model.heads[task + "_delta"] ?? []).filter(known);
  const [delta, direct] = ["_delta", "_direct"].map((c) => cell(model, task + c, i));
  const far = Math.asinh(Math.max(2 * tau, ...deltas.map(Math.abs), Math.abs(direct ?? 0)) / tau) * 1.04;
  const at = (v) => 6 + (width - 12) * (Math.asinh(v / tau) / far + 1) / 2;
  const tick = (v, y1, y2, name) => svg("line", { x1: at(v), x2: at(v), y1, y2, class: name });
  const parts = [svg("line", { x1: 6, x2: width - 6, y1: 22, y2: 22, class: "rail" }), tick(0, 8, 32, "zero"),
    svg("path", { class: "rug", d: deltas.map((v) => `M${at(v).toFixed(1)} 17V27`).join("") })];
  if (known(direct)) {
    parts.push(svg("line", { x1: at(delta), x2: at(direct), y1: 22, y2: 22, class: "between" }),
      svg("path", { d: SIGNS.diamond, class: "mark hollow", transform: `translate(${at(direct) - 5} 17)` }));
  }
  if (known(delta)) parts.push(svg("path", { d: SIGNS["triangle-down"], class: "mark", transform: `translate(${at(delta) - 5} 5)` }), tick(delta, 14, 30, "here"));
  const label = `Δ ${signed(delta)} among ${count(deltas.length)} heads` + (known(direct) ? `, direct effect ${signed(direct)}` : "");
  return svg("svg", { class: "rugs", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts);
}

function rugs(model, i) {
  const number = (task, name, ends) => {
    const [at, low, high] = [name, ends + "low", ends + "high"].map((c) => cell(model, task + "_" + c, i));
    return known(at) ? signed(at) + range(low, high) : null;
  };
  const hasDirect = TASKS.some((task) => known(cell(model, task + "_direct", i)));
  const rows = TASKS.map((task, t) => {
    const [delta, direct] = [number(task, "delta", ""), number(task, "direct", "direct_")];
    const r = ranks(model, task);
    return element("div", { class: "effect" }, element("div", {}, element("strong", {}, tasks[t].label), ` Δ ${delta ?? "–"}`,
      r.of.has(i) ? element("span", { class: "note" }, " · rank ", element("span", { class: "nowrap" }, `${count(r.of.get(i))} of ${count(r.n)}`)) : null,
      direct && element("span", { class: "note" }, ` · direct ${direct}`)), rug(model, task, i));
  });
  return [...rows, element("p", { class: "note" }, "▼ this head, | every head of the model" + (hasDirect ? ", ◇ its direct effect; between them: what later layers do about it" : "") +
    ". Left: the head helps. Linear within ±τ, logarithmic beyond.")];
}

/** Three prompts of a task as text, each token shaded by the head's attention to it from the last one. */
function prompts(model, i, t) {
  const row = model.examples?.rows.indexOf(i) ?? -1;
  const own = row < 0 ? [] : model.examples.tasks[t].filter((prompt) => prompt.percent[row]);
  return own.map((prompt) => {
    const shares = prompt.percent[row];
    const token = (text, at) => {
      const share = shares[at];
      const shown = at === 0 && /^<.*>$/.test(text) ? "BOS " : text;
      const [, before, word, after] = /^(\s*)([\s\S]*?)(\s*)$/.exec(shown);
      return [before, element("span", { class: at === shares.length - 1 ? "token last" : "token", style: `--share: ${share}%`, title: `${share}% of the attention` },
        word, share >= 10 ? element("sup", {}, String(share)) : null), after];
    };
    return element("p", { class: "prompt" }, ...prompt.tokens.flatMap(token), element("span", { class: "answer" }, " → ", element("strong", {}, prompt.correct.trim()), `, not ${prompt.distractor.trim()}`));
  });
}
function allPrompts(model, i) {
  const of = tasks.map((t, place) => [t, prompts(model, i, place)]).filter(([, own]) => own.length);
  if (!of.length && !model.attention) return [];
  if (!of.length) {
    const why = model.examples ? "The page has no room for the prompts of this head; results/attention holds them." : "What it attends to, prompt by prompt, was not kept in this run (circuit-scaling attend).";
    return [element("p", { class: "note" }, why)];
  }
  const opened = tasks[map.task];
  return [element("h4", {}, "What it attends to from the last token"),
    ...of.map(([t, own]) => (of.length === 1 ? element("div", {}, ...own) : element("details", { open: t === opened || of.length < 3 }, element("summary", {}, t.label), ...own))),
    element("p", { class: "note" }, "Shaded, underlined and numbered: its attention in percent. The frame marks the last token.")];
}

/** Where a head attends at the last token on average: a table of shares, with bars behind them. */
function attention(model, i) {
  const shares = TASKS.map((_, t) => model.attention?.tasks[t][i]);
  if (!shares.some(known)) return [element("p", { class: "note" }, "Where it attends was not measured in this run (circuit-scaling attend).")];
  const share = (s, at) => s && s[at] / 100;
  const cells = (at) => shares.map((s, t) => element("td", known(s) ? { class: "share", style: `--share: ${100 * share(s, at)}%; --tint: ${color(tasks[t].color)}` } : {}, fixed(share(s, at), 2)));
  // Roles that no task gives a hundredth are left out.
  const rows = study.attention_roles.map((role, at) => ({ role, at })).filter(({ at }) => shares.some((s) => s && s[at] >= 1));
  const n = study.attention_roles.length;
  const texts = shares.map((s, t) => s && s.length > n && s[n + 1] >= 1 ? `on ${tasks[t].label}, “${model.attention.texts[s[n]].trim()}” (${fixed(share(s, n + 1), 2)})` : null).filter(known);
  const table = element("table", { class: tasks.length > 2 ? "attention many" : "attention" },
    element("thead", {}, element("tr", {}, element("th", {}, ""), ...tasks.map((t) => element("th", { scope: "col" }, t.label)))),
    element("tbody", {}, ...rows.map(({ role, at }) => element("tr", {}, element("th", { scope: "row" }, role), ...cells(at)))));
  return [folded("Mean attention at the last token", element("div", { class: "scroll" }, table),
    element("p", { class: "note" }, `Mean share over ${model.attention.prompts}, nothing ablated` + (texts.length ? `. Of words other than the task's own, most goes to: ${texts.join("; ")}.` : ".")))];
}

/** The numbers that the card does not draw. */
function furtherNumbers(model, i) {
  const value = (name, ends) => (task) => {
    const [at, low, high] = [name, ends + "low", ends + "high"].map((c) => cell(model, task + "_" + c, i));
    return [signed(at), element("span", { class: "nowrap" }, range(low, high))];
  };
  const influence = (task) => {
    const side = ["a", "b"][SIDES.indexOf(task)];
    const [at, low, high] = ["", "_low", "_high"].map((end) => (side ? cell(model, side + "_influence" + end, i) : null));
    return [signed(at), element("span", { class: "nowrap" }, range(low, high))];
  };
  const rows = [
    ["causal influence", influence],
    ["what later layers do", value("compensation", "compensation_")],
    ["Δ, held-out prompts", value("held_out", "held_out_")],
    ["Δ over templates", (task) => range(...["_low_templates", "_high_templates"].map((end) => cell(model, task + end, i))).trim() || "–"],
    ["q", (task) => { const q = cell(model, task + "_q", i); return known(q) && q < 0.001 ? "< 0.001" : fixed(q); }],
  ];
  const says = (made) => [made].flat().some((part) => (part.textContent ?? part).replace("–", ""));
  const shown = rows.map(([name, of]) => [name, TASKS.map(of)]).filter(([, made]) => made.some(says));
  if (!shown.length) return [];
  return [folded("More numbers", element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, ""), ...tasks.map((t) => element("th", { scope: "col" }, t.label)))),
    element("tbody", {}, ...shown.map(([name, made]) => element("tr", {}, element("th", { scope: "row" }, name), ...made.map((m) => element("td", {}, ...[m].flat()))))))))];
}

function drawCard(m, i) {
  const model = models[m];
  $("card").replaceChildren(
    element("h3", {}, `${model.name} ${headName(model, i)} `, element("a", { href: address(m, i), class: "here", title: "Link to this card" }, "#")),
    element("p", {}, cardWords(model, i)), ...rugs(model, i), ...allPrompts(model, i), ...furtherNumbers(model, i), ...attention(model, i));
}
