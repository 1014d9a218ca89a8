// The Python of a page: Pyodide in a worker, so that a long cell does not stop the page.
let python;
const quiet = {messageCallback: () => {}, errorCallback: () => {}};

const HELP = `
import base64, io, json, os, sys
from pyodide.code import eval_code_async
os.environ["MPLBACKEND"] = "agg"

def figures():
    "The open figures of matplotlib, as PNG, with the descriptions that the plotting functions give them."
    if "matplotlib.pyplot" not in sys.modules:
        return []
    import matplotlib.pyplot as plt
    found = []
    for figure in map(plt.figure, plt.get_fignums()):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
        found.append([base64.b64encode(file.getvalue()).decode(), getattr(figure, "alt", "")])
    plt.close("all")
    return found

async def run(code):
    "Run a cell: what a notebook would show of it, as chart, HTML, text and figures."
    try:
        value = await eval_code_async(code, globals(), filename="<cell>")
    finally:
        sys.stdout.flush()
    chart = getattr(value, "_repr_mimebundle_", dict)().get("application/vnd.vegalite.v5+json")
    html = getattr(value, "_repr_html_", lambda: None)()
    return [json.dumps(chart) if chart else "", html or "", "" if chart or html or value is None else repr(value), figures()]
`;

async function start({python: place, archive}) {
  const {loadPyodide} = await import(place + "pyodide.mjs");
  python = await loadPyodide({indexURL: place});
  const decoder = new TextDecoder();
  const write = (bytes) => { postMessage({stream: decoder.decode(bytes, {stream: true})}); return bytes.length; };
  python.setStdout({write});
  python.setStderr({write});
  python.unpackArchive(await (await fetch(archive)).arrayBuffer(), "zip");
  await python.runPythonAsync(HELP);
  const found = await python.loadPackage("numpy", quiet).catch(() => []);
  if (!found.length) postMessage({text: "NumPy could not be loaded from " + place + ": only cells without it run here.", error: true});
}

async function run({code}) {
  await python.loadPackagesFromImports(code, quiet);
  const [chart, html, text, figures] = (await python.globals.get("run")(code)).toJs();
  if (chart || html || text) postMessage({chart, html, text});
  for (const [png, alt] of figures) postMessage({png, alt});
}

onmessage = async ({data}) => {
  try {
    await (data.archive ? start(data) : run(data));
    postMessage({done: true});
  } catch (error) {
    const lines = String(error.message || error).trim().split("\n");
    const own = lines.findIndex((line) => line.includes('"<cell>"'));       // the reader's code, without Pyodide's frames
    postMessage({text: (own > 0 ? lines.slice(own) : lines).join("\n"), error: true});
    postMessage({done: false});
  }
};
