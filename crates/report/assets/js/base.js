// What the page was given, and what every part of it needs: data, words, numbers, elements.

const $ = (id) => document.getElementById(id);
const known = (v) => v !== null && v !== undefined;

/** The text of a script element that holds compressed data. */
async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const study = JSON.parse($("study").textContent);
const { models, families, tasks } = study;
const tau = study.options.tau;
/** What the columns of a model's heads on each task begin with. */
const TASKS = tasks.map((_, t) => "t" + t);

// ---- Heads: columns of numbers by name ----------------------------------------------------------------------------

const packed = JSON.parse(await unpack("heads-data"));
/** Columns come as whole numbers of a unit, of which so many make 1. */
const columns = (packed) => Object.fromEntries(Object.entries(packed ?? {}).map(([name, [perUnit, numbers]]) =>
  [name, perUnit === 1 ? numbers : numbers.map((n) => (n === null ? null : n / perUnit))]));
models.forEach((model, m) => {
  const own = packed.models[m];
  Object.assign(model, { heads: columns(own.heads), attention: own.attention, examples: own.examples, played: own.roles });
});
const nHeads = models.reduce((n, m) => n + m.heads.layer.length, 0);
/** A number of a head: of the model, or of the contrast that is shown. */
const cell = (model, column, i) => (model.heads[column] ?? model.own?.heads[column])?.[i] ?? null;
const indexOf = (model, layer, head) => model.heads.layer.findIndex((l, i) => l === layer && model.heads.head[i] === head);
const headName = (model, i) => `L${model.heads.layer[i]}H${model.heads.head[i]}`;
/** The head with the largest Σ|Δ| over the tasks. */
function strongest(model) {
  const strength = (i) => TASKS.reduce((sum, task) => sum + Math.abs(cell(model, task + "_delta", i) ?? 0), 0);
  return model.heads.layer.reduce((best, _, i) => (strength(i) > strength(best) ? i : best), 0);
}

// ---- The contrast that is shown, of those that the study has ------------------------------------------------------

let contrast = null;
/** Its place where a reader chose it; null: the first is shown, and all tasks where there are many. */
let picked = null;
let categories = [];
let WEAK = -1;
/** Columns, and places among the tasks, of the two tasks that are contrasted. */
let SIDES = [];
let pair = [];
/** The models that the contrast has heads of. */
let contrasted = [];
const rebuilds = [];
/** Builds a part of the page now, and again whenever another contrast is chosen. */
function withContrast(build) {
  rebuilds.push(build);
  build();
}
/** Takes a contrast by its place; the parts that show it are built again. */
function useContrast(place) {
  contrast = study.contrasts[place] ?? null;
  categories = contrast?.categories ?? [];
  WEAK = categories.length - 1;
  SIDES = contrast ? contrast.sides.map((t) => TASKS[t]) : [];
  pair = contrast ? contrast.sides.map((t) => tasks[t]) : [];
  models.forEach((model, m) => {
    const own = contrast?.models[m];
    model.own = own && { ...own, heads: columns(packed.contrasts[place][m]) };
  });
  contrasted = models.filter((m) => m.own);
  rebuilds.forEach((build) => build());
}
const contrastNamed = (name) => study.contrasts.findIndex((c) => c.name === name);
const contrastLabel = (c) => c.sides.map((t) => tasks[t].label).join(" : ");

// ---- Words and numbers --------------------------------------------------------------------------------------------

/** The digits of |v|; exact ties go to the even digit, as in the notes, where toFixed goes up. */
function rounded(v, digits) {
  const size = Math.abs(v);
  const place = size * 10 ** digits;
  if (Math.abs(place - Math.floor(place) - 0.5) > 1e-6) return size.toFixed(digits);
  // All digits of the binary number: a tie is a 5 with nothing after it.
  const exact = size.toFixed(60);
  const at = exact.indexOf(".") + 1 + digits;
  const isTie = /^50*$/.test(exact.slice(at));
  const last = exact[digits === 0 ? at - 2 : at - 1];
  return isTie && Number(last) % 2 === 0 ? exact.slice(0, digits === 0 ? at - 1 : at) : size.toFixed(digits);
}
function fixed(v, digits = 3) {
  if (!known(v)) return "–";
  const text = rounded(v, digits);
  return v < 0 && Number(text) !== 0 ? "−" + text : text;
}
const signed = (v, digits = 3) => (known(v) && v > 0 && Number(rounded(v, digits)) !== 0 ? "+" : "") + fixed(v, digits);
const range = (low, high, digits = 3) => (known(low) && known(high) ? ` [${fixed(low, digits)}, ${fixed(high, digits)}]` : "");
const withRange = ([v, low, high] = [], digits = 2) => fixed(v, digits) + range(low, high, digits);
const count = (n) => n.toLocaleString("en-US");
const counted = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
const whole = (n) => (known(n) ? count(n) : "–");
const percent = (v, digits = 1) => (known(v) ? fixed(100 * v, digits) + "%" : "–");
const list = (words) => (words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words.join(""));
const listOfAny = (words) => (words.length > 1 ? `${words.slice(0, -1).join(", ")} or ${words.at(-1)}` : words.join(""));
const bytes = (n) => (n < 1048576 ? `${count(Math.ceil(n / 1024))} KiB` : `${(n / 1048576).toFixed(1)} MiB`);
function size(m) {
  if (!known(m)) return "unknown";
  const [v, unit] = m >= 1000 ? [m / 1000, "B"] : m >= 1 ? [m, "M"] : [m * 1000, "k"];
  return (v >= 10 ? v.toFixed(0) : v.toFixed(1).replace(/\.0$/, "")) + unit;
}
const notDone = (model) => (model.not_done.length ? `does not do ${listOfAny(model.not_done)}` : "");

// ---- Elements; text never becomes markup --------------------------------------------------------------------------

function decorated(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && known(value)) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(known));
  return node;
}
const element = (tag, attributes = {}, ...children) => decorated(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => decorated(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const folded = (title, ...children) => element("details", {}, element("summary", {}, title), ...children);

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
        const value = (row) => column.sort(row.item) ?? -Infinity;
        const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1);
        fill([...rows].sort(order));
      },
    }, column.title));
    return th;
  });
  table.replaceChildren(element("thead", {}, element("tr", {}, ...head)), body);
  fill(rows);
}

function select(label, options, chosen, onchange) {
  const box = element("select", { onchange: () => onchange(box.value) });
  box.append(...options.map(([value, text]) => element("option", { value, selected: String(value) === String(chosen) }, text)));
  return element("label", {}, label, box);
}

function checkboxes(legend, items, onchange) {
  const boxes = items.map((item) => {
    const box = element("input", { type: "checkbox", checked: item.on !== false, onchange });
    const swatch = item.color && element("span", { class: "swatch", style: `--tint: ${item.color}` });
    return [box, element("label", {}, box, swatch, item.symbol && sign(item.symbol), item.label)];
  });
  const node = element("fieldset", {}, element("legend", {}, legend), ...boxes.map((b) => b[1]));
  return { node, boxes: boxes.map((b) => b[0]), chosen: () => boxes.map((b) => b[0].checked) };
}

/** Paths of the plots' markers, in a box of 10 × 10. */
const SIGNS = {
  circle: "M9 5A4 4 0 1 1 1 5A4 4 0 1 1 9 5Z", square: "M1.5 1.5H8.5V8.5H1.5Z", diamond: "M5 0L10 5L5 10L0 5Z",
  "triangle-up": "M5 1L9.5 8.8H.5Z", "triangle-down": "M5 9L9.5 1.2H.5Z", cross: "M3.5 1H6.5V3.5H9V6.5H6.5V9H3.5V6.5H1V3.5H3.5Z",
  star: "M5 0L6.2 3.6H10L6.9 5.8L8.1 9.5L5 7.2L1.9 9.5L3.1 5.8L0 3.6H3.8Z", hexagon: "M5 0L9.3 2.5V7.5L5 10L.7 7.5V2.5Z",
};
/** A marker of the plots, for use in text. */
const sign = (symbol) => svg("svg", { class: "sign", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("path", { d: SIGNS[symbol] }));

/** A section that has nothing to show is hidden, and so is its link. */
function setShown(id, shown) {
  for (const part of [$(id), document.querySelector(`nav a[href="#${id}"]`)]) if (part) part.hidden = !shown;
}
const leaveOut = (id) => setShown(id, false);
const bringBack = (id) => setShown(id, true);
