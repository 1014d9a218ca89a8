// What a page does besides being read: search (in search.js), charts with sliders, cells that run.
(() => {
  "use strict";
  const up = document.currentScript.dataset.up;
  const make = (tag, name, text) => Object.assign(document.createElement(tag), {className: name, textContent: text ?? ""});

  document.head.append(Object.assign(document.createElement("script"), {src: up + "web/search.js"}));

  // What scrolls sideways can be reached by the keyboard; what fits is no stop for it.
  const scrollable = () => {
    for (const box of document.querySelectorAll("pre, .sd-table, .katex-display, .chart, .cell-output-display")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", scrollable);
  addEventListener("resize", scrollable);

  // Charts: the specification is in the page; Vega draws it and moves the sliders.
  const draw = (place, spec) => {
    if (!window.vegaEmbed) { place.remove(); return; }
    window.vegaEmbed(place, {...JSON.parse(spec), width: "container"}, {actions: false, renderer: "svg"}).then(({view}) => { place.view = view; });
  };
  for (const place of document.querySelectorAll(".chart")) draw(place, place.querySelector("script").textContent);

  // Cells: Python runs in a worker of the page, once the reader asks for it.
  const python = document.querySelector("meta[name=pyodide]");
  if (!python || location.protocol === "file:") return;
  const blocks = [...document.querySelectorAll(".cell .cell-code code")];
  const written = blocks.map((block) => block.textContent.trim());
  let worker, cells, ran = 0, busy = Promise.resolve();

  const give = (output, message) => {
    if (message.stream) {
      if (output.lastChild?.className !== "run-stream") output.append(make("pre", "run-stream"));
      output.lastChild.textContent += message.stream;
    }
    if (message.text) output.append(make("pre", message.error ? "run-error" : "", message.text));
    if (message.chart) { const place = make("div", "chart"); output.append(place); setTimeout(() => draw(place, message.chart)); }
    if (message.html) { const box = make("div"); box.innerHTML = message.html; output.append(box); }
    if (message.png) output.append(Object.assign(make("img", "img-fluid"), {src: "data:image/png;base64," + message.png, alt: message.alt || "The figure that this cell draws"}));
  };
  const ask = (code, output) => new Promise((resolve) => {      // resolves to whether it went well
    worker.onmessage = ({data}) => "done" in data ? resolve(data.done) : give(output, data);
    worker.onerror = (event) => { give(output, {text: event.message || "Python could not be started.", error: true}); resolve(false); };
    worker.postMessage(code);
  });
  const start = async (output) => {
    output.textContent = "Loading Python and NumPy, once, about 15 MB ...";
    cells = await (await fetch(python.dataset.cells)).json();
    worker = new Worker(up + "web/run.js", {type: "module"});
    const settings = {python: new URL(python.content, location.href).href, archive: new URL(up + "web/package.zip", location.href).href};
    const said = make("div", "run-note");
    const started = await ask(settings, said);
    output.replaceChildren(said);
    if (!started) { worker.terminate(); worker = null; }
    else if (said.childNodes.length) document.querySelector(".launch").after(said);
    return started;
  };
  const run = async (i, output) => {
    if (!worker && !await start(output)) {
      output.append(make("p", "", "Python cannot run in this page. Download the notebook, at the top of the page, and open it in JupyterLab."));
      return;
    }
    const at = cells.findIndex((cell, k) => k >= ran && cell.code === written[i]);
    output.textContent = at > ran ? `Running the ${at - ran} cells before this one ...` : "Running ...";
    const before = make("div");
    while (ran < at) {
      const cell = cells[ran++];
      if (cell.alone || await ask({code: cell.code}, before)) continue;
      output.replaceChildren(...before.children, make("p", "", "A cell before this one failed. Run once more goes on without it."));
      return;
    }
    const result = make("div");
    await ask({code: blocks[i].textContent}, result);
    ran = Math.max(ran, at + 1);
    if (!result.childNodes.length) result.textContent = "Done.";
    output.replaceChildren(...result.childNodes);
  };
  blocks.forEach((block, i) => {
    const bar = make("div", "run-bar"), button = make("button", "run-button", "Run");
    const output = make("div", "run-output");
    output.setAttribute("role", "status");
    Object.assign(button, {type: "button", title: "Run this cell in the page; the code can be changed"});
    button.onclick = () => {
      blocks.forEach((other) => { other.contentEditable = "plaintext-only"; other.spellcheck = false; });
      button.disabled = true;
      busy = busy.then(() => run(i, output)).catch((error) => { output.textContent = String(error); }).finally(() => { button.disabled = false; });
    };
    bar.append(button, output);
    (block.closest(".code-copy-outer-scaffold") || block.closest("div.sourceCode")).after(bar);
  });
})();
