// The Python of a page: Pyodide in a worker, so that a long cell does not stop the page.
let python;
const quiet = {messageCallback: () => {}, errorCallback: () => {}};
const read = async (address) => (await fetch(address)).text();
const call = (name, ...values) => JSON.parse(python.globals.get(name)(...values));

async function start({python: place, archive}) {
  const {loadPyodide} = await import(place + "pyodide.mjs");
  python = await loadPyodide({indexURL: place});
  const decoder = new TextDecoder();
  const write = (bytes) => { postMessage({stream: decoder.decode(bytes, {stream: true})}); return bytes.length; };
  python.setStdout({write});
  python.setStderr({write});
  python.unpackArchive(await (await fetch(archive)).arrayBuffer(), "zip");
  python.runPython(await read(new URL("page.py", self.location)));
  const found = await python.loadPackage("numpy", quiet).catch(() => []);
  if (!found.length) postMessage({text: "NumPy could not be loaded from " + place + ": only cells without it run here.", error: true});
  postMessage({done: true});
}

async function run({code, packages = []}) {
  if (packages.length) await python.loadPackage(packages, quiet);
  await python.loadPackagesFromImports(code, quiet);
  call("run", code).forEach((message) => postMessage(message));
}

async function check({check, code, data}) {
  await python.loadPackagesFromImports(code, quiet).catch(() => {});    // the judge names what cannot be read
  postMessage({verdict: call("check", check, code, await read(data))});
  postMessage({done: true});
}

onmessage = async ({data}) => {
  try {
    await (data.archive ? start(data) : data.check ? check(data) : run(data));
  } catch (error) {
    postMessage({text: String(error.message || error).trim(), error: true});
    postMessage({done: false});
  }
};
