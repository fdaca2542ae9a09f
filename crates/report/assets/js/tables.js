// Tables to take away, and where everything comes from.

async function download(table) {
  const bytes = Uint8Array.from(atob(table.gz), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const url = URL.createObjectURL(new Blob([await new Response(stream).arrayBuffer()], { type: "text/csv" }));
  element("a", { href: url, download: table.name + ".csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function tablesSection() {
  const tables = JSON.parse($("tables-data").textContent);
  $("table-list").append(...tables.map((t) => element("li", {},
    known(t.gz) ? element("button", { type: "button", onclick: () => download(t) }, t.name + ".csv") : t.name + ".csv",
    known(t.about) ? `: ${t.about}` : "", ` (${counted(t.rows, "row", "rows")}, ${bytes(t.bytes)}${known(t.gz) ? "" : "; too large for this page"})`)));
  if (study.raw.length) {
    $("raw-note").append("Not on this page, since they are large; in the study's folder: ",
      ...study.raw.flatMap((file, i) => [i ? ", " : "", element("code", {}, file.path), ` (${file.what}, ${bytes(file.bytes)})`]), ".");
  }
  $("program").textContent = `Made by circuit-scaling ${study.version} with τ = ${tau} logits, ${counted(study.options.top_k, "hero head", "hero heads")} per model and category, ` +
    `and τ sweep ${study.options.tau_sweep.join(", ")}. Plots: ${study.plotting}.`;
  const facts = [...new Set(models.flatMap((m) => Object.keys(m.provenance)))].filter((f) => models.some((m) => known(m.provenance[f])));
  const order = ["Hugging Face id or folder", "protocol", "ablation", "value bias", "seed", "measured by version", "weights"];
  facts.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  fillTable($("provenance-table"), [{ title: "model", words: true }, ...facts.map((f) => ({ title: f, words: true, hash: f === "weights" }))],
    models.map((m) => ({ cells: [m.name, ...facts.map((f) => m.provenance[f] ?? "–")] })));
}
