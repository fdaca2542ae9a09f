// Heads by layer: the map of one model, all models beside each other, and the head that is looked at.

const QUANTITIES = [["delta", "Δ"], ["direct", "direct effect"], ["compensation", "what later layers do (Δ − direct)"]]
  .filter(([name]) => models.some((m) => TASKS.some((task) => m.heads[task + "_" + name])));
const map = { model: best, task: 0, quantity: 0, all: false, at: strongest(models[best]) };
const column = () => TASKS[map.task] + "_" + QUANTITIES[map.quantity][0];
const largestOf = (model) => Math.max(1e-9, ...TASKS.flatMap((t) => (model.heads[t + "_" + QUANTITIES[map.quantity][0]] ?? []).map((v) => Math.abs(v ?? 0))));

/** Looks at a head: its card, and its place in the map. */
function showHead(m, i) {
  Object.assign(map, { model: m, at: i });
  $("map-model").querySelector("select").value = m;
  drawMap();
  drawCard(m, i);
}
/** Looks at a head, remembers it in the address, and goes to its card. */
function openHead(m, i) {
  showHead(m, i);
  go(address(m, i));
  $("card").scrollIntoView({ block: "nearest" });
  $("card").focus({ preventScroll: true });
}

function mapSection() {
  $("map-model").append(select("Model", models.map((m, i) => [i, m.name]), best, (v) => showHead(Number(v), strongest(models[v]))));
  const redraw = () => { drawMap(); drawTiles(); drawCard(map.model, map.at); };
  if (tasks.length > 1) {
    const box = select("Task", tasks.map((t, i) => [i, t.label]), map.task, (v) => { map.task = Number(v); redraw(); });
    $("map-controls").append(box);
    map.choose = (task) => { box.querySelector("select").value = task; map.task = task; redraw(); };
  }
  if (QUANTITIES.length > 1) $("map-controls").append(select("Shown", QUANTITIES.map(([, label], i) => [i, label]), 0, (v) => { map.quantity = Number(v); redraw(); }));
  plot(drawMap);
  plot(drawTiles);
  withContrast(() => drawCard(map.model, map.at));
  onModel.push((m) => showHead(m, strongest(models[m])));
  $("map").on("plotly_click", (event) => {
    const i = indexOf(models[map.model], event.points[0].y, event.points[0].x);
    if (i >= 0) openHead(map.model, i);
  });
  $("map").addEventListener("keydown", (event) => {
    const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const model = models[map.model];
    if (event.key === "Enter") openHead(map.model, map.at);
    if (!step) return;
    event.preventDefault();
    let [layer, head] = [model.heads.layer[map.at], model.heads.head[map.at]];
    // On to the next head that is in the table.
    for (let tries = 0; tries < Math.max(model.n_layers, model.n_heads); tries++) {
      [layer, head] = [layer + step[0], head + step[1]];
      const i = indexOf(model, layer, head);
      if (i >= 0) return showHead(map.model, i);
    }
  });
}

function drawMap() {
  const model = models[map.model];
  const blank = (fill) => Array.from({ length: model.n_layers }, () => Array(model.n_heads).fill(fill));
  const [z, text, hovertext] = [blank(null), blank(""), blank("")];
  const limit = largestOf(model);
  model.heads.layer.forEach((layer, i) => {
    const value = cell(model, column(), i);
    if (!known(value)) return;
    const head = model.heads.head[i];
    z[layer][head] = Math.sign(value) * Math.sqrt(Math.abs(value) / limit);
    // The sign of strong heads is written, for those who do not see the colours.
    text[layer][head] = Math.abs(value) >= tau ? (value < 0 ? "−" : "+") : "";
    hovertext[layer][head] = hover(model, i) + (map.quantity ? `<br>${QUANTITIES[map.quantity][1]}: ${signed(value)}` : "");
  });
  const digits = Math.max(0, 1 - Math.floor(Math.log10(Math.max(limit / 4, 1e-5))));
  const bar = [-1, -0.25, 0, 0.25, 1];
  const trace = { type: "heatmap", z, text, hovertext, texttemplate: "%{text}", hovertemplate: "%{hovertext}<extra></extra>", colorscale: [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1].map((v) => [(v + 1) / 2, tint(v)]), zmin: -1, zmax: 1, xgap: 1, ygap: 1,
    colorbar: { title: { text: "logits" }, tickvals: bar.map((b) => Math.sign(b) * Math.sqrt(Math.abs(b))), ticktext: bar.map((b) => fixed(b * limit, digits)), thickness: 14, outlinewidth: 0 } };
  const [x, y] = [model.heads.head[map.at], model.heads.layer[map.at]];
  const shapes = known(x) ? [{ type: "rect", x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5, line: { color: ink(), width: 3 } }] : [];
  const numbered = (n) => ({ dtick: Math.max(1, Math.ceil(n / 12)), range: [-0.5, n - 0.5], showgrid: false });
  Plotly.react("map", [trace], layout({ shapes, xaxis: axis("head", numbered(model.n_heads)), yaxis: axis("layer", numbered(model.n_layers)), uirevision: map.model }), config);
  $("map-note").textContent = `${model.name}, ${tasks[map.task].label}, ${QUANTITIES[map.quantity][1]}: ${counted(z.flat().filter(known).length, "head", "heads")}. ` +
    `− and +: |value| ≥ τ = ${tau} logits. The colour follows the square root, up to the model's largest.` + (model.not_done.length ? ` This model ${notDone(model)}.` : "");
}

/** All models beside each other, each as tall as the others: the first layer at the bottom, the last at the top. */
function drawTiles() {
  $("tiles").hidden = models.length < 2;
  if (models.length < 2) return;
  const tile = (model, m) => {
    const [width, height] = [Math.max(60, Math.min(140, 7 * model.n_heads)), 150];
    const canvas = element("canvas", { width: 2 * width, height: 2 * height, style: `width: ${width}px; height: ${height}px` });
    const pen = canvas.getContext("2d");
    const [w, h] = [2 * width / model.n_heads, 2 * height / model.n_layers];
    const limit = largestOf(model);
    model.heads.layer.forEach((layer, i) => {
      const value = cell(model, column(), i);
      if (!known(value)) return;
      const [x, y] = [model.heads.head[i] * w, 2 * height - (layer + 1) * h];
      pen.fillStyle = tint(Math.sign(value) * Math.sqrt(Math.abs(value) / limit));
      pen.fillRect(x + 0.5, y + 0.5, Math.max(1, w - 1), Math.max(1, h - 1));
      // Heads that hinder, and are strong, are marked by a dot as well.
      if (value >= tau) { pen.fillStyle = ink(); pen.fillRect(x + w / 2 - 1.5, y + h / 2 - 1.5, 3, 3); }
    });
    const top = strongest(model);
    const label = `${model.name}: strongest head ${headName(model, top)}. Show it`;
    return element("button", { type: "button", class: "tile", title: label, "aria-label": label, onclick: () => openHead(m, top) }, canvas, element("span", {}, model.name));
  };
  $("tiles-row").replaceChildren(...models.map(tile));
  $("tiles-note").textContent = `${tasks[map.task].label}, ${QUANTITIES[map.quantity][1]}. First layer at the bottom, last at the top; colours up to each model's own largest. A dot: the head hinders by τ or more.`;
}
