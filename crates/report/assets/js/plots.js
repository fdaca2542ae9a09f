// Colours and axes of the plots; drawing them again when colours or the contrast change.

let printing = false;
function dark() {
  if (printing) return false;
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
const ink = () => (dark() ? "#e8e9ec" : "#1d1f23");
const grid = () => (dark() ? "#33373f" : "#e7e9ed");
const guide = () => (dark() ? "#8b909b" : "#8a8a8a");
/** Colours are those of the figures; on a dark ground dark ones are lightened. */
function color(hex) {
  if (!dark()) return hex;
  const rgb = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const light = (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255;
  const share = Math.max(0, 0.55 - light);
  return "#" + rgb.map((c) => Math.round(c + (255 - c) * share).toString(16).padStart(2, "0")).join("");
}
/** The colour of an effect between −1 (helps: blue) and 1 (hinders: red). */
function tint(value) {
  const stops = dark() ? [[103, 183, 232], [34, 37, 43], [255, 138, 115]] : [[33, 102, 172], [255, 255, 255], [178, 24, 43]];
  const share = Math.min(1, Math.abs(value));
  return `rgb(${stops[1].map((c, k) => Math.round(c + (stops[value < 0 ? 0 : 2][k] - c) * share)).join(",")})`;
}

const redraws = [];
/** Draws now, and again when the page's colours change. */
function plot(draw) {
  redraws.push(draw);
  draw();
}
const redrawAll = () => redraws.forEach((draw) => draw());

const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };
const isNarrow = () => !printing && innerWidth < 700;
/** A sheet of paper has a width of its own, whatever that of the window. */
const ofSheet = () => (printing ? { autosize: false, width: 680, height: 420 } : { autosize: true });
function axis(title, more = {}) {
  return { title: { text: title }, gridcolor: grid(), zeroline: false, linecolor: grid(), ticks: "outside", tickcolor: grid(), automargin: true, ...more };
}
function layout(more) {
  const narrow = isNarrow();
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink(), family: "system-ui, Arial, sans-serif", size: narrow ? 11 : 13 },
    margin: { l: 60, r: 15, t: 20, b: 50 }, hovermode: "closest",
    legend: narrow ? { orientation: "h", yref: "container", y: 0, yanchor: "bottom" } : { itemsizing: "constant" },
    ...ofSheet(), hoverlabel: { align: "left" }, modebar: { bgcolor: "rgba(0,0,0,0)", color: dark() ? "#a7acb6" : "#5a5f69", activecolor: ink() }, ...more,
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
const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
/** What a plot says of the head that is pointed at. */
function hover(model, i) {
  const line = (task, t) => `Δ ${tasks[t].label} ${signed(cell(model, task + "_delta", i))}${range(cell(model, task + "_low", i), cell(model, task + "_high", i))}`;
  const category = cell(model, "category", i);
  return `<b>${escape(model.name)} ${headName(model, i)}</b><br>` +
    TASKS.map(line).filter((_, t) => known(cell(model, TASKS[t] + "_delta", i))).join("<br>") + (known(category) ? "<br>" + categories[category].label : "");
}

/** Lets the browser paint what is there before the next part is drawn. */
const painted = () => new Promise((resolve) => setTimeout(resolve, 0));
/** Runs the plotting library that the page carries. */
async function loadPlotly() {
  document.head.append(element("script", {}, await unpack("plotly-data")));
}
