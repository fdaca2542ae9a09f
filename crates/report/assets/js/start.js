// The parts of the page in the order in which a reader meets them; each is painted before the next is drawn.

picked = fromAddress().contrast;
useContrast(picked ?? 0);
showPicture();
if (tasks.length === 1) strongestSection();
else leaveOut("strongest");
if (study.overlaps.length) overlapSection();
else leaveOut("overlap");
performance.mark("opening drawn");
await painted();
await loadPlotly();
for (const section of [contrast && phaseSection, mapSection, rolesSection, scalingSection, ablationSection, tablesSection]) {
  if (section) section();
  await painted();
}
showContrast(picked);
if (fromAddress().model !== null) followAddress();
addEventListener("popstate", followAddress);
// What was drawn above a section has moved it away from where a link went.
const section = fromAddress().model === null && document.getElementById(decoded(location.hash.slice(1)));
if (section && location.hash) section.scrollIntoView({ behavior: "instant" });

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
performance.mark("whole page drawn");
document.documentElement.dataset.ready = "true";
dispatchEvent(new Event("ready"));
