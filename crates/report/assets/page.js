"use strict";
(() => {
  const study = JSON.parse(document.getElementById("study").textContent);
  const { models, families, tasks } = study;
  const tau = study.options.tau;
  /** What the columns of a model's heads on each task begin with. */
  const TASKS = tasks.map((_, t) => "t" + t);
  const $ = (id) => document.getElementById(id);

  // ---- The contrast that is shown: of several, the one that the address names ---------------------------------------

  const named = study.contrasts.findIndex((c) => location.hash === "#contrast=" + c.name);
  const contrast = study.contrasts[Math.max(0, named)] ?? null;
  const categories = contrast?.categories ?? [];
  const WEAK = categories.length - 1;
  /** Columns, and places among the tasks, of the two tasks that are contrasted. */
  const SIDES = contrast ? contrast.sides.map((t) => TASKS[t]) : [];
  const pair = contrast ? contrast.sides.map((t) => tasks[t]) : [];
  models.forEach((model, m) => {
    const own = contrast?.models[m];
    if (!own) return;
    const { heads, ...rest } = own;
    Object.assign(model, rest, { contrasted: true });
    Object.assign(model.heads, heads);
  });
  /** The models that the contrast has heads of. */
  const contrasted = models.filter((m) => m.contrasted);

  // ---- Words and numbers ----------------------------------------------------------------------------------------

  const known = (v) => v !== null && v !== undefined;
  /** The digits of |v|; exact ties go to the even digit, as in the notes, where toFixed goes up. */
  const rounded = (v, digits) => {
    const size = Math.abs(v);
    // All digits of the binary number: a tie is a 5 with nothing after it.
    const exact = size.toFixed(60);
    const at = exact.indexOf(".") + 1 + digits;
    const isTie = /^50*$/.test(exact.slice(at));
    const last = exact[digits === 0 ? at - 2 : at - 1];
    return isTie && Number(last) % 2 === 0 ? exact.slice(0, digits === 0 ? at - 1 : at) : size.toFixed(digits);
  };
  const fixed = (v, digits = 3) => {
    if (!known(v)) return "–";
    const text = rounded(v, digits);
    return v < 0 && Number(text) !== 0 ? "−" + text : text;
  };
  const signed = (v, digits = 3) => (known(v) && v > 0 && Number(rounded(v, digits)) !== 0 ? "+" : "") + fixed(v, digits);
  const range = (low, high, digits = 3) => (known(low) && known(high) ? ` [${fixed(low, digits)}, ${fixed(high, digits)}]` : "");
  const count = (n) => n.toLocaleString("en-US");
  const percent = (v) => (known(v) ? fixed(100 * v, 1) + "%" : "–");
  const bytes = (n) => (n < 1048576 ? `${count(Math.ceil(n / 1024))} KiB` : `${(n / 1048576).toFixed(1)} MiB`);
  const size = (m) => {
    if (!known(m)) return "unknown";
    const [v, unit] = m >= 1000 ? [m / 1000, "B"] : m >= 1 ? [m, "M"] : [m * 1000, "k"];
    return (v >= 10 ? v.toFixed(0) : v.toFixed(1).replace(/\.0$/, "")) + unit;
  };
  const headName = (layer, head) => `L${layer}H${head}`;

  /** An element with attributes and children; text never becomes markup. */
  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && known(value)) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter(known));
    return node;
  }

  /** Fills a table; a column is {title, words, sort} and a row holds texts or nodes. */
  function fillTable(table, columns, rows) {
    const body = element("tbody");
    const fill = (rows) => body.replaceChildren(...rows.map((row) => element("tr", {},
      ...row.cells.map((cell, i) => element("td", { class: columns[i].hash ? "words hash" : columns[i].words && "words" }, cell)))));
    const head = columns.map((column, i) => {
      if (!column.sort) return element("th", { scope: "col", class: column.words && "words" }, column.title);
      const th = element("th", { scope: "col", class: column.words && "words" });
      th.append(element("button", {
        type: "button", title: "Sort by " + column.title, onclick: () => {
          const down = th.getAttribute("aria-sort") !== "descending";
          for (const other of head) other.removeAttribute("aria-sort");
          th.setAttribute("aria-sort", down ? "descending" : "ascending");
          const value = (row) => { const v = column.sort(row.item); return known(v) ? v : -Infinity; };
          const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1);
          fill([...rows].sort(order));
        },
      }, column.title));
      return th;
    });
    table.replaceChildren(element("thead", {}, element("tr", {}, ...head)), body);
    fill(rows);
  }

  function select(label, options, onchange) {
    const box = element("select", { onchange: () => onchange(box.value) });
    box.append(...options.map(([value, text]) => element("option", { value }, text)));
    return element("label", {}, label, box);
  }

  function checkboxes(legend, items, onchange) {
    const boxes = items.map((item) => {
      const box = element("input", { type: "checkbox", checked: item.on !== false, onchange });
      const swatch = item.color && element("span", { class: "swatch" });
      if (swatch) plot(() => swatch.style.background = color(item.color));
      return [box, element("label", {}, box, swatch, item.symbol && sign(item.symbol), item.label)];
    });
    const node = element("fieldset", {}, element("legend", {}, legend), ...boxes.map((b) => b[1]));
    return { node, chosen: () => boxes.map((b) => b[0].checked) };
  }

  /** A marker of the plots, for use in text. */
  function sign(symbol) {
    const d = {
      circle: "M9 5A4 4 0 1 1 1 5A4 4 0 1 1 9 5Z", square: "M1.5 1.5H8.5V8.5H1.5Z", diamond: "M5 0L10 5L5 10L0 5Z",
      "triangle-up": "M5 1L9.5 8.8H.5Z", "triangle-down": "M5 9L9.5 1.2H.5Z", cross: "M3.5 1H6.5V3.5H9V6.5H6.5V9H3.5V6.5H1V3.5H3.5Z",
      star: "M5 0L6.2 3.6H10L6.9 5.8L8.1 9.5L5 7.2L1.9 9.5L3.1 5.8L0 3.6H3.8Z", hexagon: "M5 0L9.3 2.5V7.5L5 10L.7 7.5V2.5Z",
    }[symbol];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({ class: "sign", viewBox: "0 0 10 10", "aria-hidden": "true" })) svg.setAttribute(name, value);
    svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    svg.firstChild.setAttribute("d", d);
    return svg;
  }

  // ---- Colours of the page in plots -----------------------------------------------------------------------------

  let printing = false;
  const dark = () => {
    if (printing) return false;
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const ink = () => (dark() ? "#e8e9ec" : "#1d1f23");
  const grid = () => (dark() ? "#33373f" : "#e7e9ed");
  /** Colours are those of the figures; on a dark ground dark ones are lightened. */
  function color(hex) {
    if (!dark()) return hex;
    const rgb = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const light = (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255;
    const share = Math.max(0, 0.55 - light);
    return "#" + rgb.map((c) => Math.round(c + (255 - c) * share).toString(16).padStart(2, "0")).join("");
  }

  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };
  function axis(title, more = {}) {
    return { title: { text: title }, gridcolor: grid(), zeroline: false, linecolor: grid(), ticks: "outside", tickcolor: grid(), automargin: true, ...more };
  }
  const isNarrow = () => innerWidth < 700;
  function layout(more) {
    const narrow = isNarrow();
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink(), family: "system-ui, Arial, sans-serif", size: narrow ? 11 : 13 },
      margin: { l: 60, r: 15, t: 20, b: 50 }, hovermode: "closest",
      legend: narrow ? { orientation: "h", yref: "container", y: 0, yanchor: "bottom" } : { itemsizing: "constant" },
      hoverlabel: { align: "left" }, modebar: { bgcolor: "rgba(0,0,0,0)", color: dark() ? "#a7acb6" : "#5a5f69", activecolor: ink() }, ...more,
    };
  }
  /** Ticks for an axis that shows asinh(Δ / τ). */
  function effectTicks(largest) {
    const values = [0];
    for (let size = 10 ** Math.ceil(Math.log10(2 * tau)); size <= Math.max(largest, 2 * tau) * 10; size *= 10) values.push(size, -size);
    values.sort((a, b) => a - b);
    return { tickvals: values.map((v) => Math.asinh(v / tau)), ticktext: values.map((v) => String(v).replace("-", "−")) };
  }

  /** A logarithmic axis of parameters with a few labels as the field writes sizes. */
  function sizeAxis(sizes) {
    const [low, high] = [Math.min(...sizes) / 1.25, Math.max(...sizes) * 1.25];
    const ticks = (steps) => {
      const all = [];
      for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d++) all.push(...steps.map((s) => s * 10 ** d));
      return all.filter((v) => v >= low && v <= high);
    };
    const tickvals = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]].map(ticks).find((t) => t.length >= 3) ?? ticks([1, 1.5, 2, 3, 5, 7]);
    return axis("parameters (log scale)", { type: "log", range: [Math.log10(low), Math.log10(high)], tickvals, ticktext: tickvals.map(size) });
  }

  const redraws = [];
  function plot(draw) {
    redraws.push(draw);
    draw();
  }
  const redrawAll = () => redraws.forEach((draw) => draw());

  // ---- Heads ----------------------------------------------------------------------------------------------------

  const cell = (model, column, i) => (model.heads[column] ? model.heads[column][i] : null);
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
  function hover(model, i) {
    const line = (task, t) => `Δ ${tasks[t].label} ${signed(cell(model, task + "_delta", i))}${range(cell(model, task + "_low", i), cell(model, task + "_high", i))}`;
    const category = cell(model, "category", i);
    return `<b>${escape(model.name)} ${headName(model.heads.layer[i], model.heads.head[i])}</b><br>` +
      TASKS.map(line).filter((_, t) => known(cell(model, TASKS[t] + "_delta", i))).join("<br>") + (known(category) ? "<br>" + categories[category].label : "");
  }
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

  /** Where a head attends at the last token: a table of shares, with bars behind them. */
  function attention(model, i) {
    const shares = TASKS.map((_, t) => model.attention?.tasks[t][i]);
    if (!shares.some(known)) return [element("p", { class: "note" }, "Where it attends at the last token was not measured in this run.")];
    const share = (s, at) => s && s[at] / 1000;
    const cells = (at) => shares.map((s, t) => element("td", known(s) ? { class: "share", style: `--share: ${100 * share(s, at)}%; --tint: ${color(tasks[t].color)}` } : {}, fixed(share(s, at), 2)));
    // Roles that neither task gives a hundredth are left out.
    const rows = study.attention_roles.map((role, at) => ({ role, at })).filter(({ at }) => shares.some((s) => s && s[at] >= 10));
    const n = study.attention_roles.length;
    const texts = shares.map((s, t) => s && s.length > n && s[n + 1] >= 10 ? `on ${tasks[t].label}, “${model.attention.texts[s[n]].trim()}” (${fixed(share(s, n + 1), 2)})` : null).filter(known);
    return [
      element("table", { class: tasks.length > 2 ? "attention many" : "attention" }, element("caption", {}, "Attention at the last token"),
        element("thead", {}, element("tr", {}, element("th", {}, ""), ...tasks.map((t) => element("th", { scope: "col" }, t.label)))),
        element("tbody", {}, ...rows.map(({ role, at }) => element("tr", {}, element("th", { scope: "row" }, role), ...cells(at))))),
      element("p", { class: "note" }, `Mean share over ${model.attention.prompts}, nothing ablated` + (texts.length ? `. Of the words that are no names, most goes to: ${texts.join("; ")}.` : ".")),
    ];
  }

  /** Shows a head's card, and marks it in the heat map of its model. */
  function showHead(m, i, focus) {
    const model = models[m];
    if (map.model !== m) { map.model = m; map.box.value = m; }
    map.at = i;
    drawMap();
    const category = cell(model, "category", i);
    // A value and, unbroken, its interval.
    const value = (name, ends) => (task) => {
      const [at, low, high] = [name, ends + "low", ends + "high"].map((column) => cell(model, task + "_" + column, i));
      return [signed(at), element("span", { class: "nowrap" }, range(low, high))];
    };
    const rows = [
      ["Δ", value("delta", "")],
      ["over templates", (task) => range(...["_low_templates", "_high_templates"].map((end) => cell(model, task + end, i))).trim() || "–"],
      ["q", (task) => { const q = cell(model, task + "_q", i); return known(q) && q < 0.001 ? "< 0.001" : fixed(q); }],
      ["Δ, held out", value("held_out", "held_out_")],
      ["direct effect", value("direct", "direct_")],
      ["of later layers", value("compensation", "compensation_")],
      ["rank by |\u2060Δ\u2060|", (task) => { const r = ranks(model, task); return r.of.has(i) ? `${r.of.get(i)} of ${count(r.n)}` : "–"; }],
    ];
    const influence = (task) => {
      const side = ["a", "b"][SIDES.indexOf(task)];
      const [at, low, high] = ["", "_low", "_high"].map((end) => (side ? cell(model, side + "_influence" + end, i) : null));
      return [signed(at), element("span", { class: "nowrap" }, range(low, high))];
    };
    if (contrast) rows.push(["causal influence", influence]);
    const table = element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, ""), ...tasks.map((t) => element("th", { scope: "col" }, t.label)))),
      element("tbody", {}, ...rows.map(([name, of]) => element("tr", {}, element("th", { scope: "row" }, name), ...TASKS.map((task) => element("td", {}, ...[of(task)].flat()))))));
    const probability = cell(model, "probability", i);
    const heldOut = cell(model, "held_out_category", i);
    const relative = cell(model, "relative_category", i);
    const words = !contrast ? (model.not_done.length ? `This model does not do ${model.not_done.join(" and ")}.` : "")
      : !known(category) ? "Not measured on both tasks: no category."
      : `Category: ${categories[category].label}` + (known(probability) ? `, with probability ${fixed(probability, 2)} under resampled prompts` : "") +
        (known(heldOut) ? `; on held-out prompts: ${categories[heldOut].label}` : "") + "." +
        (known(relative) ? ` At ${fixed(100 * study.relative_tau, 0)}% of the model’s own logit differences: ${categories[relative].label}.` : "") +
        (model.not_done.length ? ` This model does not do ${model.not_done.join(" and ")}.` : "");
    $("card").replaceChildren(
      element("h3", {}, `${model.name} ${headName(model.heads.layer[i], model.heads.head[i])}`),
      element("p", {}, words), table, ...headRoles(model, i), ...attention(model, i));
    if (focus) { $("card").scrollIntoView({ block: "nearest" }); $("card").focus({ preventScroll: true }); }
  }

  // ---- Overview, models -----------------------------------------------------------------------------------------

  const nHeads = models.reduce((n, m) => n + m.heads.layer.length, 0);
  $("subtitle").textContent = `${count(nHeads)} heads · ${models.length} ${models.length === 1 ? "model" : "models"} · ` +
    `${families.map((f) => f.name).join(", ")} · τ = ${tau} logits`;
  const both = pair.map((t) => t.label).join(" and ");
  const isPublished = contrast?.name === "ioi:anti_repeat";
  if (!(isPublished && tasks.length === 2)) {
    const labels = tasks.map((t) => t.label);
    const list = labels.length > 1 ? labels.slice(0, -1).join(", ") + " and " + labels.at(-1) : labels[0];
    $("title").textContent = `What attention heads do on ${list}, and how that changes with scale`;
    $("question").replaceChildren(element("strong", {}, "The question. "),
      `Each attention head was ablated on its own, on ${tasks.length === 1 ? "the task" : "the tasks"} ${list}; Δ is what that did to the mean logit difference ` +
      "(correct − distractor). A negative Δ means that the head helps. " +
      (tasks.length > 1 ? "Do the same heads do several tasks, and does that change with size and across families?" : "Which heads do the task, and does that change with size and across families?"));
  }
  const findings = (list) => list.map((f) => element("li", {}, element("strong", {}, f.title + ". "), f.text + " ",
    ...f.sources.map((s) => element("code", {}, s)).flatMap((node, i) => (i ? [" ", node] : [node]))));
  $("task-findings").append(...findings(study.findings));
  if (contrast) {
    $("findings").append(...findings(contrast.findings));
    $("r-of").textContent = pair.map((t) => "Δ " + t.label).join(" and ");
    $("contrast-title").hidden = !study.findings.length;
    $("contrast-title").textContent = both;
  }
  if (study.contrasts.length > 1) {
    const choice = select("Contrast", study.contrasts.map((c) => [c.name, c.sides.map((t) => tasks[t].label).join(" : ")]), (name) => {
      location.hash = "contrast=" + name;
      location.reload();
    });
    choice.querySelector("select").value = contrast.name;
    $("contrast-choice").append(choice);
  }
  $("contrast-note").hidden = !contrast;
  for (const id of contrast ? [] : ["phase", "ablation"]) {
    $(id).hidden = true;
    document.querySelector(`nav a[href="#${id}"]`).hidden = true;
  }
  $("limits").append(...study.limits.map((text) => element("li", {}, text)));

  const interval = ([r, low, high] = []) => fixed(r, 2) + range(low, high, 2);
  const whole = (n) => (known(n) ? count(n) : "–");
  // Columns that no model has a value for are left out.
  const modelColumns = [
    { title: "model", words: true, sort: (m) => m.name, show: (m) => m.name + (m.not_done.length ? " *" : "") }, { title: "family", words: true, sort: (m) => m.family, show: (m) => m.family },
    { title: "size", sort: (m) => m.params_m, show: (m) => size(m.params_m) },
    { title: "layers × heads", sort: (m) => m.n_layers * m.n_heads, show: (m) => `${m.n_layers} × ${m.n_heads}` },
    ...tasks.map((t, i) => ({ title: "accuracy " + t.label, sort: (m) => m.baselines[i]?.accuracy, show: (m) => percent(m.baselines[i]?.accuracy) })),
    ...(study.findings.length ? tasks.map((t, i) => ({ title: "heads at τ, " + t.label, sort: (m) => m.measures[i]?.n_strong, show: (m) => whole(m.measures[i]?.n_strong) })) : []),
    ...categories.map((c, i) => ({ title: c.label, sort: (m) => m.counts?.[i], show: (m) => whole(m.counts?.[i]) })),
    ...categories.map((c, i) => ({ title: "relative: " + c.label, sort: (m) => m.relative_counts?.[i], show: (m) => whole(m.relative_counts?.[i]) })),
    { title: "not stable", sort: (m) => m.n_unstable, show: (m) => whole(m.n_unstable) },
    { title: "r", sort: (m) => m.pearson?.[0], show: (m) => interval(m.pearson) },
    { title: "r over templates", sort: (m) => m.pearson_templates?.[1], show: (m) => range(m.pearson_templates?.[1], m.pearson_templates?.[2], 2).trim() || "–" },
    { title: "r without noise", sort: (m) => m.disattenuated?.[0], show: (m) => interval(m.disattenuated) },
    { title: "r, held out", sort: (m) => m.held_out_pearson?.[0], show: (m) => interval(m.held_out_pearson) },
  ].filter((column) => models.some((m) => known(column.sort(m))));
  if (modelColumns.some((column) => column.title.startsWith("accuracy"))) $("accuracy-note").textContent = study.accuracy;
  fillTable($("model-table"), modelColumns, models.map((m) => ({ item: m, cells: modelColumns.map((column) => column.show(m)) })));
  if (contrast?.intervals_over) $("model-note").append(` Intervals of r are over ${contrast.intervals_over}.`);
  const notDone = tasks.length === 2 && contrast ? contrast.not_done : models.some((m) => m.not_done.length) && "The model does not do one of the tasks.";
  if (notDone) $("model-note").append(` * ${notDone}`);

  // ---- Every task against every other -----------------------------------------------------------------------------

  if (study.overlaps.length) overlapSection();
  else {
    $("overlap").hidden = true;
    document.querySelector('nav a[href="#overlap"]').hidden = true;
  }
  function overlapSection() {
    const state = { model: study.overlaps[0].model };
    const draw = () => {
      const own = study.overlaps.filter((o) => o.model === state.model);
      const model = models[state.model];
      const of = (a, b) => own.find((o) => o.tasks.includes(a) && o.tasks.includes(b));
      const shaded = (value, tint, figure) => element("td", { class: "shade", style: `background: color-mix(in srgb, ${color(tint)} ${Math.round(55 * Math.abs(value ?? 0))}%, transparent)` },
        fixed(figure[0], 2), element("span", { class: "nowrap" }, range(figure[1], figure[2], 2)));
      const shown = (row, column) => {
        if (row === column) return element("td", { class: "diagonal" }, whole(model.measures[row]?.n_strong));
        const found = of(row, column);
        if (!found) return element("td", {}, "–");
        return row < column ? shaded(found.pearson[0], found.pearson[0] < 0 ? "#2166ac" : "#b2182b", found.pearson) : shaded(found.jaccard[0], "#cc79a7", found.jaccard);
      };
      const header = element("tr", {}, element("th", {}, ""), ...tasks.map((t) => element("th", { scope: "col" }, t.label)));
      const rows = tasks.map((t, row) => element("tr", {}, element("th", { scope: "row" }, t.label), ...tasks.map((_, column) => shown(row, column))));
      $("overlap-table").replaceChildren(element("thead", {}, header), element("tbody", {}, ...rows));
      const most = Math.max(...own.map((o) => o.n_heads));
      $("overlap-note").textContent = `${model.name}: ${count(most)} heads, τ = ${tau} logits.` + (model.not_done.length ? ` It does not do ${model.not_done.join(", ")}.` : "");
    };
    const with_any = [...new Set(study.overlaps.map((o) => o.model))];
    $("overlap-controls").append(select("Model", with_any.map((m) => [m, models[m].name]), (v) => { state.model = Number(v); draw(); }));
    plot(draw);
  }

  // ---- Phase space ----------------------------------------------------------------------------------------------

  const phase = { model: "", scale: "asinh", intervals: false };
  const manyWeak = contrasted.reduce((n, m) => n + m.counts[WEAK], 0) > 2500;
  const familyBoxes = checkboxes("Families", families.map((f) => ({ label: f.name, symbol: f.symbol })), () => drawPhase());
  const categoryBoxes = checkboxes("Categories", categories.map((c, i) => ({ label: c.label, color: c.color, on: !(manyWeak && i === WEAK) })), () => drawPhase());
  const options = checkboxes("Show", [{ label: "intervals", on: false }], () => drawPhase());
  $("phase-controls").append(familyBoxes.node, categoryBoxes.node, options.node,
    select("Model", [["", "all"], ...models.map((m, i) => [i, m.name])], (v) => { phase.model = v; drawPhase(); }),
    select("Axes", [["asinh", "logarithmic beyond ±τ"], ["linear", "linear"]], (v) => { phase.scale = v; drawPhase(); }));

  function drawPhase() {
    const [inFamily, inCategory, [withIntervals]] = [familyBoxes.chosen(), categoryBoxes.chosen(), options.chosen()];
    const place = phase.scale === "asinh" ? (v) => Math.asinh(v / tau) : (v) => v;
    const traces = [];
    const shown = [];
    let largest = 0;
    let hiddenWeak = 0;
    // Weak heads lie below the others.
    for (const c of contrast ? [WEAK, 0, 1, 2] : []) {
      families.forEach((family, f) => {
        if (!inFamily[f]) return;
        const trace = { x: [], y: [], text: [], customdata: [], type: "scatter", mode: "markers", name: `${categories[c].label}, ${family.name}`,
          hovertemplate: "%{text}<extra></extra>", marker: { color: color(categories[c].color), symbol: family.symbol, size: c === WEAK ? 5 : 8, opacity: c === WEAK ? (dark() ? 0.75 : 0.5) : 0.85 } };
        const ends = { x: { plus: [], minus: [] }, y: { plus: [], minus: [] } };
        models.forEach((model, m) => {
          if (model.family !== family.name || (phase.model !== "" && Number(phase.model) !== m)) return;
          model.heads.layer.forEach((_, i) => {
            if (cell(model, "category", i) !== c) return;
            if (!inCategory[c]) { hiddenWeak += c === WEAK; return; }
            const at = SIDES.map((task) => cell(model, task + "_delta", i));
            trace.x.push(place(at[0]));
            trace.y.push(place(at[1]));
            trace.text.push(hover(model, i));
            trace.customdata.push([m, i]);
            largest = Math.max(largest, Math.abs(at[0]), Math.abs(at[1]));
            shown.push({ model, m, i, strength: Math.abs(at[0]) + Math.abs(at[1]) });
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
    const line = (shape) => ({ type: "line", line: { color: dark() ? "#8b909b" : "#8a8a8a", width: 1, dash: "dash" }, layer: "below", ...shape });
    const shapes = [-tau, tau].flatMap((t) => [
      line({ xref: "paper", x0: 0, x1: 1, y0: place(t), y1: place(t) }), line({ yref: "paper", y0: 0, y1: 1, x0: place(t), x1: place(t) })]);
    // Both axes reach beyond ±τ, however weak the heads are.
    const reach = (side) => {
      const far = traces.flatMap((t) => t[side]).concat(place(2 * tau), place(-2 * tau));
      const error = "error_" + side;
      const ends = traces.flatMap((t) => (t[error] ? t[side].flatMap((v, i) => [v - t[error].arrayminus[i], v + t[error].array[i]]) : []));
      const [low, high] = far.concat(ends).reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [0, 0]);
      return [low - 0.05 * (high - low), high + 0.05 * (high - low)];
    };
    const ticks = phase.scale === "asinh" ? effectTicks(largest) : {};
    // On a phone the boxes above say what colours and signs mean.
    Plotly.react("phase-plot", traces, layout({ shapes, showlegend: !isNarrow(), xaxis: axis(`Δ ${pair[0].label} (logits)`, { ...ticks, range: reach("x") }), yaxis: axis(`Δ ${pair[1].label} (logits)`, { ...ticks, range: reach("y") }), uirevision: phase.scale + phase.model }), config);
    $("phase-note").textContent = `${count(shown.length)} of ${count(nHeads)} heads shown` + (hiddenWeak ? `; ${count(hiddenWeak)} weak heads are hidden (tick “weak” to see them)` : "") +
      `. Dashed: ±τ = ±${tau}. Negative Δ: the head helps the task.`;
    shown.sort((a, b) => b.strength - a.strength);
    fillTable($("phase-table"), [{ title: "head", words: true }, { title: "category", words: true }, ...pair.map((t) => ({ title: "Δ " + t.label }))],
      shown.slice(0, 20).map(({ model, m, i }) => ({ cells: [
        element("button", { type: "button", onclick: () => showHead(m, i, true) }, `${model.name} ${headName(model.heads.layer[i], model.heads.head[i])}`),
        categories[cell(model, "category", i)].label,
        ...SIDES.map((task) => signed(cell(model, task + "_delta", i)) + range(cell(model, task + "_low", i), cell(model, task + "_high", i)))] })));
  }
  if (contrast) plot(drawPhase);
  if (contrast) $("phase-plot").on("plotly_click", (event) => showHead(...event.points[0].customdata, true));

  // ---- Heat map -------------------------------------------------------------------------------------------------

  const strongest = (model) => {
    let best = 0;
    const strength = (i) => TASKS.reduce((sum, task) => sum + Math.abs(cell(model, task + "_delta", i) ?? 0), 0);
    model.heads.layer.forEach((_, i) => { if (strength(i) > strength(best)) best = i; });
    return best;
  };
  const map = { model: 0, task: 0, at: 0, box: null };
  const modelSelect = select("Model", models.map((m, i) => [i, m.name]), (v) => { map.model = Number(v); showHead(map.model, strongest(models[map.model])); });
  map.box = modelSelect.querySelector("select");
  $("map-controls").append(modelSelect, select("Task", tasks.map((t, i) => [i, t.label]), (v) => { map.task = Number(v); drawMap(); }));

  function drawMap() {
    const model = models[map.model];
    const task = TASKS[map.task];
    const blank = () => Array.from({ length: model.n_layers }, () => Array(model.n_heads).fill(null));
    const [z, text] = [blank(), blank()];
    const limit = Math.max(1e-9, ...TASKS.flatMap((t) => (model.heads[t + "_delta"] ?? []).map((d) => Math.abs(d ?? 0))));
    model.heads.layer.forEach((layer, i) => {
      const delta = cell(model, task + "_delta", i);
      if (!known(delta)) return;
      z[layer][model.heads.head[i]] = Math.sign(delta) * Math.sqrt(Math.abs(delta) / limit);
      text[layer][model.heads.head[i]] = hover(model, i);
    });
    const scale = dark()
      ? [[0, "#67b7e8"], [0.25, "#2a6f9e"], [0.5, "#22252b"], [0.75, "#a8433a"], [1, "#ff8a73"]]
      : [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#ffffff"], [0.75, "#f4a582"], [1, "#b2182b"]];
    const digits = Math.max(0, 1 - Math.floor(Math.log10(Math.max(limit / 4, 1e-5))));
    const bar = [-1, -0.25, 0, 0.25, 1];
    const trace = { type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", colorscale: scale, zmin: -1, zmax: 1, xgap: 1, ygap: 1,
      colorbar: { title: { text: "Δ (logits)" }, tickvals: bar.map((b) => Math.sign(b) * Math.sqrt(Math.abs(b))), ticktext: bar.map((b) => fixed(b * limit, digits)), thickness: 14, outlinewidth: 0 } };
    const [x, y] = [model.heads.head[map.at], model.heads.layer[map.at]];
    const shapes = known(x) ? [{ type: "rect", x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5, line: { color: ink(), width: 3 } }] : [];
    const numbered = (n) => ({ dtick: Math.max(1, Math.ceil(n / 12)), range: [-0.5, n - 0.5], showgrid: false });
    Plotly.react("map", [trace], layout({ shapes, xaxis: axis("head", numbered(model.n_heads)), yaxis: axis("layer", numbered(model.n_layers)), uirevision: map.model }), config);
    $("map-note").textContent = `${model.name}, ${tasks[map.task].label}: ${count(z.flat().filter(known).length)} heads.`;
  }
  const indexOf = (model, layer, head) => model.heads.layer.findIndex((l, i) => l === layer && model.heads.head[i] === head);
  plot(drawMap);
  $("map").on("plotly_click", (event) => {
    const i = indexOf(models[map.model], event.points[0].y, event.points[0].x);
    if (i >= 0) showHead(map.model, i, true);
  });
  $("map").addEventListener("keydown", (event) => {
    const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const model = models[map.model];
    if (event.key === "Enter") showHead(map.model, map.at, true);
    if (!step) return;
    event.preventDefault();
    let [layer, head] = [model.heads.layer[map.at], model.heads.head[map.at]];
    // On to the next head that is in the table.
    for (let tries = 0; tries < Math.max(model.n_layers, model.n_heads); tries++) {
      [layer, head] = [layer + step[0], head + step[1]];
      const i = indexOf(model, layer, head);
      if (i >= 0) { showHead(map.model, i, false); return; }
    }
  });
  showHead(0, strongest(models[0]), false);

  // ---- Scaling --------------------------------------------------------------------------------------------------

  /** Measures against size: [title, value of a model, its law's name, its interval]. */
  const ofContrast = () => {
    const [keys, labels] = [contrast.keys, pair.map((t) => t.label)];
    const categoryOf = (at) => contrast.categories[at];
    // Of the categories, the tables list the second task's first.
    const [onlyB, onlyA, shared] = [0, 1, 2].map(categoryOf);
    return [
      ["corr", "Pearson’s r between the tasks", "pearson"], ["spearman", "Spearman’s ρ between the tasks", "spearman"],
      ["held_out_corr", "Pearson’s r, held-out prompts", "held_out_pearson"], ["held_out_spearman", "Spearman’s ρ, held-out prompts", "held_out_spearman"],
      ["frac_strong", "share of heads that are not weak"], ...[shared, onlyA, onlyB].map((c) => ["frac_" + c.name, `share of ${c.label} heads`]),
      ["corr_disattenuated", "Pearson’s r without noise", "disattenuated"],
      ["frac_relative_strong", "share of heads that are not weak, relative thresholds"],
      ...[shared, onlyA, onlyB].map((c) => ["frac_relative_" + c.name, `share of ${c.label} heads, relative thresholds`]),
      ["n_strong", "heads that are not weak"],
      ...keys.flatMap((k, t) => [[`top_1pct_share_${k}`, `share of Σ|Δ ${labels[t]}| in the top 1% of heads`], [`top_5pct_share_${k}`, `share of Σ|Δ ${labels[t]}| in the top 5% of heads`]]),
      ...keys.map((k, t) => [`participation_fraction_${k}`, `participation fraction, ${labels[t]}`]),
      ...[onlyA, onlyB, shared].map((c) => ["mean_relative_depth_" + c.name, `mean depth of ${c.label} heads`]),
    ].map(([name, title, withInterval]) => {
      const at = contrast.measures.indexOf(name);
      return { title, law: name, withInterval, of: (m) => m.values?.[at] };
    });
  };
  const ofTasks = () => tasks.flatMap((t, at) => [["frac_strong", "share of heads with |Δ| ≥ τ"], ["top_5pct_share", "share of Σ|Δ| in the top 5% of heads"], ["participation_fraction", "participation fraction"]]
    .map(([name, title]) => ({ title: `${t.label}: ${title}`, of: (m) => m.measures[at]?.[name] })));
  const MEASURES = [...(contrast ? ofContrast() : []), ...(study.findings.length ? ofTasks() : [])]
    .filter(({ of }) => models.some((m) => known(of(m)) && known(m.params_m)));
  const scaling = { measure: 0 };
  function drawScaling() {
    const { title, of, law: lawOf, withInterval } = MEASURES[scaling.measure];
    const traces = families.map((family, f) => {
      // Families stand a little apart, so that the same sizes do not hide each other; the text says the true size.
      const shift = 10 ** (0.012 * (f - (families.length - 1) / 2));
      const own = models.filter((m) => m.family === family.name && known(m.params_m) && known(of(m)));
      const tint = color(family.color);
      const trace = { x: own.map((m) => m.params_m * shift), y: own.map(of), type: "scatter", mode: own.length > 1 ? "lines+markers" : "markers", name: family.name,
        text: own.map((m) => `<b>${escape(m.name)}</b> (${size(m.params_m)})<br>${fixed(of(m))}` + (withInterval ? range(m[withInterval][1], m[withInterval][2]) : "")),
        hovertemplate: "%{text}<extra></extra>", line: { color: tint, width: 1.5 }, marker: { color: tint, symbol: family.symbol, size: 10 } };
      if (withInterval) {
        trace.error_y = { type: "data", symmetric: false, color: tint, thickness: 1.3, width: 0,
          array: own.map((m) => (known(m[withInterval][2]) ? m[withInterval][2] - m[withInterval][0] : 0)),
          arrayminus: own.map((m) => (known(m[withInterval][1]) ? m[withInterval][0] - m[withInterval][1] : 0)) };
      }
      return trace;
    }).filter((t) => t.x.length);
    const bounds = withInterval ? { range: [-1.05, 1.05] } : { rangemode: "tozero" };
    Plotly.react("scaling-plot", traces, layout({ xaxis: sizeAxis(models.filter((m) => known(m.params_m)).map((m) => m.params_m)), yaxis: axis(title, bounds), showlegend: true }), config);
    const law = contrast?.laws[lawOf];
    $("scaling-note").textContent = (withInterval && contrast.intervals_over ? `Bars: 95% intervals over ${contrast.intervals_over}. ` : "This measure has no interval. ") + (law && known(law.slope)
      ? `Pooled over families, with an intercept for each: ${fixed(law.slope)}${range(law.low, law.high)} with each tenfold size (n = ${law.n}, q = ${fixed(law.q)}).`
      : "No line is fitted: too few models or sizes.") + (law?.left_out.length ? ` Left out, without this measure or a size: ${law.left_out.join(", ")}.` : "");
  }
  if (MEASURES.length) {
    $("scaling-controls").append(select("Measure", MEASURES.map((m, i) => [i, m.title]), (v) => { scaling.measure = Number(v); drawScaling(); }));
    plot(drawScaling);
  } else {
    $("scaling-plot").hidden = true;
    $("scaling-note").textContent = "The size of no model is known: nothing can be drawn against it.";
  }

  // ---- Ablation -------------------------------------------------------------------------------------------------

  const curves = contrast?.ablation ?? [];
  if (curves.length) ablationSection();
  else {
    $("ablation-plot").hidden = true;
    $("ablation-note").textContent = "Not measured in this run (circuit-scaling ablate).";
  }
  function ablationSection() {
    const MEASURE = [["mean_diff", "correct − mean of the other names", "difference (logits)"], ["acc", "accuracy", "accuracy"], ["interaction", "Δ of the set − sum of its heads' Δ", "interaction (logits)"]];
    const state = { model: curves[0].model, selection: curves.find((c) => c.kind === "hero")?.selection, task: 0, measure: 0 };
    const plain = (selection) => (selection === "all" ? "all categories" : selection.replace(/_/g, "-"));
    const unique = (key) => [...new Set(curves.map((c) => c[key]))];
    const draw = () => {
      const [measure, , title] = MEASURE[state.measure];
      const key = `${measure}_${["a", "b"][state.task]}`;
      const own = curves.filter((c) => c.model === state.model && c.selection === state.selection);
      // Kinds of sets stand a little apart, so that their bars do not hide each other.
      const styles = { hero: ["hero heads", pair[state.task].color, "solid", 1.015], random: ["random heads", "#777777", "solid", 0.985], random_matched: ["random heads of the same layers", "#777777", "dot", 1] };
      const traces = own.filter((c) => styles[c.kind]).map((c) => {
        const [name, hex, dash, shift] = styles[c.kind];
        const tint = color(hex);
        const [y, low, high] = [key, key + "_low", key + "_high"].map((k) => c[k]);
        return { x: c.k.map((k) => k * shift), customdata: c.k, hovertemplate: "%{customdata} ablated: %{y:.3f}", y, name, type: "scatter", mode: "lines+markers", line: { color: tint, dash }, marker: { color: tint, size: 7 },
          error_y: { type: "data", symmetric: false, color: tint, width: 0, thickness: 1, array: y.map((v, i) => (known(high[i]) ? high[i] - v : 0)), arrayminus: y.map((v, i) => (known(low[i]) ? v - low[i] : 0)) } };
      });
      const base = own.find((c) => c.kind === "baseline") ?? curves.find((c) => c.model === state.model && c.kind === "baseline");
      const shapes = base && known(base[key][0]) ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: base[key][0], y1: base[key][0], line: { color: ink(), width: 1, dash: "dash" } }] : [];
      Plotly.react("ablation-plot", traces, layout({ shapes, xaxis: axis("heads ablated (log scale)", { type: "log", tickvals: traces[0]?.customdata, ticktext: traces[0]?.customdata.map(String) }), yaxis: axis(`${pair[state.task].label}: ${title}`, measure === "acc" ? { range: [-0.02, 1.02] } : {}), showlegend: true }), config);
      $("ablation-note").textContent = `${state.model}, ${pair[state.task].label}, hero heads from ${plain(state.selection)}; over ${contrast.ablation_prompts}. Dashed line: nothing ablated. ` +
        "Bars of hero heads: 95% intervals over prompts; of random heads, which are drawn from all: the middle 95% of the random sets." + (measure === "acc" ? " " + study.accuracy : "");
    };
    $("ablation-controls").append(
      select("Model", unique("model").map((m) => [m, m]), (v) => { state.model = v; draw(); }),
      select("Hero heads from", [...new Set(curves.filter((c) => c.kind === "hero").map((c) => c.selection))].map((s) => [s, plain(s)]), (v) => { state.selection = v; draw(); }),
      select("Task", pair.map((t, i) => [i, t.label]), (v) => { state.task = Number(v); draw(); }),
      select("Measure", MEASURE.map((m, i) => [i, m[1]]), (v) => { state.measure = Number(v); draw(); }));
    plot(draw);
  }

  // ---- Tables and provenance ------------------------------------------------------------------------------------

  async function download(table) {
    const bytes = Uint8Array.from(atob(table.gz), (c) => c.charCodeAt(0));
    let [blob, name] = [new Blob([bytes], { type: "application/gzip" }), table.name + ".csv.gz"];
    if (typeof DecompressionStream === "function") {
      const stream = blob.stream().pipeThrough(new DecompressionStream("gzip"));
      [blob, name] = [new Blob([await new Response(stream).arrayBuffer()], { type: "text/csv" }), table.name + ".csv"];
    }
    const url = URL.createObjectURL(blob);
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
  $("table-list").append(...study.tables.map((t) => element("li", {},
    known(t.gz) ? element("button", { type: "button", onclick: () => download(t) }, t.name + ".csv") : t.name + ".csv",
    ` (${count(t.rows)} ${t.rows === 1 ? "row" : "rows"}, ${bytes(t.bytes)}${known(t.gz) ? "" : "; too large for this page"})`)));

  if (study.raw.length) {
    $("raw-note").append("Not on this page, since they are large; in the study’s folder: ",
      ...study.raw.flatMap((file, i) => [i ? ", " : "", element("code", {}, file.path), ` (${file.what}, ${bytes(file.bytes)})`]), ".");
  }

  $("program").textContent = `Made by circuit-scaling ${study.version} with τ = ${tau} logits, ${study.options.top_k} hero heads per model and category, and τ sweep ${study.options.tau_sweep.join(", ")}. Plots: ${study.plotting}.`;
  const facts = [...new Set(models.flatMap((m) => Object.keys(m.provenance)))].filter((f) => models.some((m) => known(m.provenance[f])));
  const order = ["Hugging Face id or folder", "protocol", "ablation", "value bias", "seed", "measured by version", "weights"];
  facts.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  fillTable($("provenance-table"), [{ title: "model", words: true }, ...facts.map((f) => ({ title: f, words: true, hash: f === "weights" }))],
    models.map((m) => ({ cells: [m.name, ...facts.map((f) => m.provenance[f] ?? "–")] })));

  // ---- Theme and print ------------------------------------------------------------------------------------------

  $("theme").addEventListener("change", (event) => {
    if (event.target.value) document.documentElement.dataset.theme = event.target.value;
    else delete document.documentElement.dataset.theme;
    redrawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  // On paper nothing can be opened: what is folded is shown.
  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    document.documentElement.dataset.theme = "light";
    (opened = folded()).forEach((part) => { part.open = true; });
    redrawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    opened.forEach((part) => { part.open = false; });
    document.documentElement.dataset.theme = $("theme").value;
    if (!$("theme").value) delete document.documentElement.dataset.theme;
    redrawAll();
  });
  document.documentElement.dataset.ready = "true";
})();
