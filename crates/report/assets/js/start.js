// The parts of the page in the order in which a reader meets them; each is painted before the next is drawn.

/** The contrast that the address names, else the first. */
const fromAddress = () => contrastNamed(decodeURIComponent(location.hash).replace("#contrast=", ""));
/** The head that the address names: model and place. */
function headFromAddress() {
  const [, name, layer, head] = /^#(.+)-L(\d+)H(\d+)$/.exec(location.hash) ?? [];
  const m = name === undefined ? -1 : models.findIndex((model) => model.name === decodeURIComponent(name));
  const i = m < 0 ? -1 : indexOf(models[m], Number(layer), Number(head));
  return i < 0 ? null : [m, i];
}
function followAddress() {
  const named = fromAddress();
  if (named >= 0 && study.contrasts[named] !== contrast) useContrast(named);
  const head = headFromAddress();
  if (head) {
    showHead(...head);
    $("card").scrollIntoView({ block: "nearest" });
  }
}

useContrast(Math.max(0, fromAddress()));
// What the answer is read from stands beside it: the matrix of many tasks, the phase space of two, the heads of one.
const pictures = [study.overlaps.length && "overlap", contrast && "phase", tasks.length === 1 && "strongest"].filter(Boolean);
if (pictures.length) $("picture").append(...pictures.map($));
else $("overview").classList.add("alone");
if (pictures.includes("strongest")) strongestSection();
else leaveOut("strongest");
if (study.overlaps.length) overlapSection();
else leaveOut("overlap");
await painted();
await loadPlotly();
for (const section of [contrast && phaseSection, mapSection, rolesSection, scalingSection, ablationSection, tablesSection]) {
  if (section) section();
  await painted();
}
followAddress();
for (const event of ["popstate", "hashchange"]) addEventListener(event, followAddress);

// ---- Theme and print ----------------------------------------------------------------------------------------------

$("theme").addEventListener("change", (event) => {
  if (event.target.value) document.documentElement.dataset.theme = event.target.value;
  else delete document.documentElement.dataset.theme;
  redrawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
// On paper nothing can be opened: what is folded is shown.
let opened = [];
addEventListener("beforeprint", () => {
  printing = true;
  document.documentElement.dataset.theme = "light";
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((part) => { part.open = true; });
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
dispatchEvent(new Event("ready"));
