// What the page shows, and how its address says so: #MODEL, #MODEL-L9H6 or neither, and &contrast=A:B where one was chosen. Links,
// bookmarks and the browser's back and forward buttons all go through here.

const encoded = (text) => encodeURIComponent(text).replaceAll("%3A", ":");
/** The address of what is called so, of a model or head, in the contrast that is shown. */
function addressOf(name) {
  const parts = [name, picked === null ? null : `contrast=${encoded(study.contrasts[picked].name)}`].filter(Boolean);
  return parts.length ? "#" + parts.join("&") : location.pathname + location.search;
}
const address = (m, i) => addressOf(`${encoded(models[m].name)}-${headName(models[m], i)}`);
function go(to) {
  if (to !== location.hash) history.pushState(null, "", to);
}

/** What the address names: the places of contrast and model, and of a head of that model. */
function fromAddress() {
  const found = { contrast: null, model: null, head: null };
  for (const part of location.hash.slice(1).split("&").map(decoded)) {
    if (part.startsWith("contrast=")) found.contrast = study.contrasts.findIndex((c) => c.name === part.slice(9));
    const model = models.findIndex((m) => m.name === part);
    const [, name, layer, head] = /^(.+)-L(\d+)H(\d+)$/.exec(part) ?? [];
    const owner = models.findIndex((m) => m.name === name);
    const at = owner < 0 ? -1 : indexOf(models[owner], Number(layer), Number(head));
    if (model >= 0) found.model = model;
    else if (at >= 0) Object.assign(found, { model: owner, head: at });
  }
  if (found.contrast === -1) found.contrast = null;
  return found;
}
/** Text of an address; one that was cut in the middle of a sign stays as it is. */
function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

/** What stands beside the answer: the matrix of many tasks until a contrast is chosen, then its phase space. */
function showPicture() {
  const id = study.overlaps.length && picked === null ? "overlap" : contrast ? "phase" : tasks.length === 1 ? "strongest" : null;
  for (const other of ["strongest", "overlap", "phase"]) {
    if (other !== id && $(other).parentElement === $("picture")) $("heads").before($(other));
  }
  if (id && $(id).parentElement !== $("picture")) $("picture").append($(id));
  $("overview").classList.toggle("alone", !id);
  if (id === "phase" && phase.drawn) Plotly.Plots.resize("phase-plot");
}

/** Shows a contrast everywhere; null: the first, with all tasks beside the answer. */
function showContrast(place) {
  const changes = place !== picked;
  picked = place;
  if (changes) useContrast(place ?? 0);
  if (picked !== null && !contrast.sides.includes(map.task)) map.choose?.(contrast.sides[0]);
  showPicture();
  for (const verdict of verdicts) {
    const own = study.contrasts.length > 1 && (picked === null ? verdict === verdicts[0] && !verdict.dataset.contrast : verdict.dataset.contrast === contrast.name);
    verdict.classList.toggle("shown", own);
    verdict.querySelector("button")?.setAttribute("aria-pressed", String(own));
  }
}
const chooseContrast = (place) => {
  showContrast(place);
  go(addressOf(null));
};
/** Shows a model in every plot, and remembers it in the address. */
const chooseModel = (m) => {
  showModel(m);
  go(addressOf(encoded(models[m].name)));
};

/** Where there are several contrasts, the sentence of each shows it. */
const verdicts = [...document.querySelectorAll(".verdict")];
if (study.contrasts.length > 1) {
  for (const verdict of verdicts) {
    const place = verdict.dataset.contrast ? contrastNamed(verdict.dataset.contrast) : null;
    if (place === null && verdict !== verdicts[0]) continue;
    const sentence = verdict.querySelector("strong");
    const title = place === null ? "Show all tasks beside the answer" : `Show ${contrastLabel(study.contrasts[place])} in every plot`;
    sentence.replaceChildren(element("button", { type: "button", title, "aria-pressed": "false" }, ...sentence.childNodes));
    verdict.classList.add("choice");
    verdict.addEventListener("click", () => {
      // A click that ends the selection of a word is none.
      if (getSelection().isCollapsed) chooseContrast(place);
    });
  }
}

/** Shows what the address names; a section of the page changes nothing else. */
function followAddress() {
  const { contrast: place, model, head } = fromAddress();
  const id = decoded(location.hash.slice(1));
  if (id && model === null && place === null && document.getElementById(id)) return;
  showContrast(place);
  if (model === null) showModel(best);
  else if (head === null) showModel(model);
  else {
    showHead(model, head);
    $("card").scrollIntoView({ block: "nearest" });
  }
}
