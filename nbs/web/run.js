// The Python of a page: Pyodide in a worker, so that a long cell does not stop the page.
let python;

const HELP = `
import base64, io, os, sys
from pyodide.code import eval_code_async
os.environ["MPLBACKEND"] = "agg"

def figures():
    "The open figures of matplotlib, as PNG, with the description that the plotting functions give them."
    if "matplotlib.pyplot" not in sys.modules:
        return []
    import matplotlib.pyplot as plt
    found = []
    for number in plt.get_fignums():
        file = io.BytesIO()
        plt.figure(number).savefig(file, format="png", dpi=80)
        found.append(base64.b64encode(file.getvalue()).decode())
    plt.close("all")
    return found

async def run(code):
    "Run a cell: what a notebook would show of it, as HTML, text and figures."
    value = await eval_code_async(code, globals())
    html = getattr(value, "_repr_html_", lambda: None)()
    return [html or "", "" if html or value is None else repr(value), figures()]
`;

async function start({python: place, archive}) {
  const {loadPyodide} = await import(place + "pyodide.mjs");
  python = await loadPyodide({indexURL: place, stdout: (text) => postMessage({text}), stderr: (text) => postMessage({text, error: true})});
  await python.loadPackage("numpy", {messageCallback: () => {}, errorCallback: () => {}});
  python.unpackArchive(await (await fetch(archive)).arrayBuffer(), "zip");
  await python.runPythonAsync("import numpy" + HELP);
}

async function run({code}) {
  await python.loadPackagesFromImports(code, {messageCallback: () => {}});
  const [html, text, figures] = (await python.globals.get("run")(code)).toJs();
  if (html || text) postMessage({html, text});
  for (const png of figures) postMessage({png});
}

onmessage = async ({data}) => {
  try {
    await (data.archive ? start(data) : run(data));
    postMessage({done: true});
  } catch (error) {
    const lines = String(error.message || error).trim().split("\n");
    const own = lines.findIndex((line) => line.includes('"<exec>"'));       // the reader's code, without Pyodide's frames
    postMessage({text: (own > 0 ? lines.slice(own) : lines).join("\n"), error: true});
    postMessage({done: false});
  }
};
