// What a page does besides being read: search (in search.js), charts with sliders, cells that run.
(() => {
  "use strict";
  const {up, vega} = document.currentScript.dataset;
  const make = (tag, name, text) => Object.assign(document.createElement(tag), {className: name, textContent: text ?? ""});

  document.head.append(Object.assign(document.createElement("script"), {src: up + "web/search.js"}));

  // On a telephone the rows of these tables, and of all that do not fit, are cards, and each cell has the name of its column.
  const narrow = matchMedia("(max-width: 500px)");
  const fit = () => {
    if (!narrow.matches) return;
    for (const box of document.querySelectorAll(".sd-table:not(:is(.filter, .cards) *)")) if (box.scrollWidth > box.clientWidth + 1) box.classList.add("cards");
  };
  addEventListener("load", fit);
  narrow.addEventListener("change", fit);
  for (const table of document.querySelectorAll(".sd-table table")) {
    if (!table.tHead?.rows.length || !table.tBodies.length) continue;
    const columns = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, k) => { cell.dataset.column = columns[k]; });
  }

  // What scrolls sideways can be reached by the keyboard; what fits is no stop for it.
  const scrollable = () => {
    for (const box of document.querySelectorAll("pre, .sd-table, .katex-display, .chart, .cell-output-display")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", scrollable);
  addEventListener("resize", scrollable);

  // Paper is white: a dark page is printed light.
  const paper = (printing) => {
    if (document.documentElement.dataset.scheme !== "alternate") return;
    for (const link of document.querySelectorAll("link.quarto-color-scheme")) link.media = link.classList.contains("quarto-color-alternate") === printing ? "not all" : "all";
    document.documentElement.classList.toggle("quarto-dark", !printing);
  };
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));

  // Charts: the specification is in the page; Vega, which is loaded last, draws it and moves the sliders.
  const load = (file) => new Promise((resolve, reject) => document.head.append(Object.assign(
    document.createElement("script"), {src: up + file, async: false, onload: resolve, onerror: reject})));
  let drawer;
  const draw = async (place, spec) => {
    drawer ??= vega ? Promise.all(vega.split(" ").map(load)) : Promise.reject(new Error("no Vega"));
    try { await drawer; } catch { place.remove(); return; }
    const {view} = await window.vegaEmbed(place, {...JSON.parse(spec), width: "container"}, {actions: false, renderer: "svg"});
    for (const cells of place.querySelectorAll("[class*=voronoi]")) cells.ariaHidden = true;      // where a drag is caught: nothing to read
    place.view = view;
  };
  addEventListener("DOMContentLoaded", () => {
    for (const place of document.querySelectorAll(".chart")) draw(place, place.querySelector("script").textContent);
  });

  // Cells: Python runs in a worker of the page, once the reader asks for it.
  const python = document.querySelector("meta[name=pyodide]");
  if (!python || location.protocol === "file:") return;
  const lesson = python.dataset.cells, limit = Number(python.dataset.limit);
  const cells = fetch(lesson).then((file) => file.json());
  let worker, stop, ran = 0, busy = Promise.resolve();

  const give = (output, message) => {
    if (message.stream) {
      if (output.lastChild?.className !== "run-stream") output.append(make("pre", "run-stream"));
      output.lastChild.textContent += message.stream;
    }
    if (message.text) output.append(make("pre", message.error ? "run-error" : "", message.text));
    if (message.chart) { const place = make("div", "chart"); output.append(place); setTimeout(() => draw(place, message.chart)); }
    if (message.html) { const box = make("div"); box.innerHTML = message.html; output.append(box); }
    if (message.png) output.append(Object.assign(make("img", "img-fluid"), {src: "data:image/png;base64," + message.png, alt: message.alt || "The figure that this cell draws"}));
    if (message.verdict) judged(output, message.verdict);
  };
  const judged = (output, {mark, text, example, fix}) => {
    output.append(make("p", "verdict", `${mark} ${text}`));
    if (example) output.append(make("pre", "", example));
    if (!fix) return;
    const way = make("details");
    way.append(make("summary", "", "The way out"), make("p", "", fix));
    output.append(way);
  };

  // Resolves to whether it went well. What takes longer than the limit, or is stopped, ends with its worker.
  const ask = (task, output, seconds = limit) => new Promise((resolve) => {
    const end = (well) => { clearTimeout(clock); stop = null; resolve(well); };
    const quit = (why) => {
      worker.terminate();
      worker = null;
      ran = 0;
      give(output, {text: why + " What the cells defined is gone; the next Run runs them again.", error: true});
      end(false);
    };
    const clock = setTimeout(() => quit(`Still running after ${seconds} s, so it was stopped. Is there a loop that never ends?`), 1000 * seconds);
    stop = () => quit("Stopped.");
    worker.onmessage = ({data}) => "done" in data ? end(data.done) : give(output, data);
    worker.onerror = (event) => { give(output, {text: event.message || "Python could not be started.", error: true}); end(false); };
    worker.postMessage(task);
  });
  const start = async (output) => {
    output.textContent = "Loading Python and NumPy, once, about 15 MB ...";
    worker = new Worker(up + "web/run.js", {type: "module"});
    const settings = {python: new URL(python.content, location.href).href, archive: new URL(up + "web/package.zip", location.href).href};
    const said = make("div", "run-note");
    const started = await ask(settings, said, 600);
    output.replaceChildren(said);
    if (!started) { worker?.terminate(); worker = null; }
    else if (said.childNodes.length) { document.querySelector(".run-note")?.remove(); document.querySelector(".launch").after(said); }
    return started;
  };
  // Have Python ready and the cells before cell `at` run; false, with the reason shown, if that fails.
  const prepare = async (known, at, output) => {
    if (!worker && !await start(output)) {
      output.append(make("p", "", "Python cannot run in this page. Download the notebook, at the top of the page, and open it in JupyterLab."));
      return false;
    }
    output.textContent = at > ran ? `Running the ${at - ran} cells before this one ...` : "Running ...";
    const before = make("div");
    while (ran < at) {
      const cell = known[ran++];
      if (cell.alone || await ask(cell, before)) continue;
      output.replaceChildren(...before.childNodes, make("p", "", "A cell before this one failed. Run once more goes on without it."));
      return false;
    }
    return true;
  };
  const perform = async (known, at, task, output) => {
    if (!await prepare(known, at, output)) return;
    const result = make("div");
    await ask(task, result, task.check ? Math.min(20, limit) : limit);
    if (worker) ran = Math.max(ran, at + 1);
    if (!result.childNodes.length) result.textContent = "Done.";
    output.replaceChildren(...result.childNodes);
  };

  const button = (name, title, act, kind = "side-button") => Object.assign(make("button", kind, name), {type: "button", title, onclick: act});
  // The buttons under a block: the first does the work, Stop ends it, others may follow.
  const bar = (place, name, title, work, ...others) => {
    const box = make("div", "run-bar"), output = make("div", "run-output");
    output.setAttribute("role", "status");
    const halt = Object.assign(button("Stop", "End what is running in this page", () => stop?.()), {hidden: true});
    const go = button(name, title, () => {
      go.disabled = true;
      halt.hidden = false;
      busy = busy.then(() => work(output)).catch((error) => { output.textContent = String(error); })
        .finally(() => { go.disabled = false; halt.hidden = true; });
    }, "run-button");
    box.append(go, halt, ...others, output);
    place.after(box);
    if (name === "Run") {                        // stands beside the code, as in a notebook
      Object.assign(go, {textContent: "▶", className: "run-button cell-run", ariaLabel: name});
      place.prepend(go);
    }
    return output;
  };

  // An exercise: its blank becomes a text to write in, which the browser keeps.
  const answers = new Map();
  const exercise = (block, place, known, at) => {
    const {name, blank} = known[at].exercise, key = `${location.pathname} ${name}`;
    const text = Object.assign(make("textarea", "answer"), {value: localStorage.getItem(key) ?? blank, spellcheck: false});
    text.setAttribute("aria-label", `Your answer: ${name}`);
    const keep = () => {
      text.rows = text.value.split("\n").length + 1;
      if (text.value === blank) localStorage.removeItem(key);
      else localStorage.setItem(key, text.value);
    };
    text.oninput = keep;
    text.onkeydown = (event) => {                // a new line is indented as the one above
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      const line = text.value.slice(0, text.selectionStart).split("\n").pop();
      document.execCommand("insertText", false, "\n" + line.match(/^ */)[0] + (/:\s*$/.test(line) ? "    " : ""));
    };
    keep();
    answers.set(name, text);
    place.replaceWith(text);
    const reset = button("Reset", "Put the blank back", () => { text.value = blank; keep(); output.replaceChildren(); });
    const data = new URL(`${up}checks/${name}.json`, location.href).href;
    const output = bar(text, "Check", "Judge this answer as tito test does", (output) => perform(known, at, {check: name, code: text.value, data}, output), reset);
  };
  const download = async () => {
    const notebook = await (await fetch(lesson.replace(/\.json$/, ""))).json(), known = await cells;
    for (const {exercise} of known) {
      const cell = exercise && notebook.cells.find((cell) => cell.id === exercise.cell);
      if (!cell) continue;
      const directives = [cell.source].flat().join("").match(/^(#\|.*\n)*/)[0];
      Object.assign(cell, {source: directives + (answers.get(exercise.name)?.value ?? exercise.blank), outputs: []});
    }
    const file = new Blob([JSON.stringify(notebook, null, 1)], {type: "application/x-ipynb+json"});
    const link = Object.assign(make("a"), {href: URL.createObjectURL(file), download: lesson.split("/").pop().replace(/\.json$/, "")});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const blocks = [...document.querySelectorAll(".cell .cell-code code")].map((block) => [block, block.textContent.trim()]);
  cells.then((known) => {
    for (const [block, written] of blocks) {
      const place = block.closest(".code-copy-outer-scaffold") || block.closest("div.sourceCode");
      const blank = known.findIndex((cell) => cell.exercise?.blank.trim() === written);
      if (blank >= 0) { exercise(block, place, known, blank); continue; }
      bar(place, "Run", "Run this cell in the page; the code can be changed", async (output) => {
        for (const [other] of blocks) Object.assign(other, {contentEditable: "plaintext-only", spellcheck: false});
        const after = known.findIndex((cell, k) => k >= ran && cell.code === written);
        const at = after >= 0 ? after : known.findIndex((cell) => cell.code === written);
        await perform(known, at, {code: block.textContent, packages: known[at]?.packages ?? []}, output);
      });
    }
    if (answers.size) document.querySelector(".launch")?.append(" · ", button("Download with your answers", "This page as a notebook, with what you wrote in it", download));
    scrollable();
  });
})();
