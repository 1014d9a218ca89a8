"Where things are, and a page that is watched."
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from tinytorch.site.pages import fetch

ROOT = Path(__file__).resolve().parents[2]
# a slow connection: bytes a second, milliseconds
SLOW = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8,
        "uploadThroughput": 0.75e6 / 8}
VERSIONS = {"axe-core": "4.14.1", "katex": "0.16.11", "pyodide": "314.0.7"}


def lacking(what: str):
    "Skip a test for want of something; where TINYTORCH_BROWSER says that it must be there, fail."
    (pytest.fail if os.environ.get("TINYTORCH_BROWSER") == "required" else pytest.skip)(what)


def package(name: str) -> Path:
    "The files of an npm package."
    files = fetch(name, VERSIONS[name], ROOT / ".cache/npm")
    if not files: lacking(f"npm cannot fetch {name}")
    return files


def slowed(page) -> None:
    "Give a page a slow connection."
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", SLOW)


def screens(page, height: int = 800) -> float:
    "How many windows of this height a page is long."
    return page.evaluate("document.documentElement.scrollHeight") / height


class Watched:
    "A page that keeps what went wrong on it and what it asked of other hosts."

    def __init__(self, context, address):
        self.page, self.address, self.problems, self.strangers = context.new_page(), address, [], []
        self.page.on("console",
                     lambda message: self.problems.append(message.text) if message.type in (
                         "error", "warning") else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request",
                     lambda request: self.strangers.append(
                         request.url) if not request.url.startswith(
                         (address, "data:", "blob:", "file:")) else None)

    def size(self) -> int:
        "The bytes that came over the wire for this page and all it loaded."
        return self.page.evaluate("performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource')).reduce((sum, entry) => sum + entry.encodedBodySize, 0)")

    def open(self, place: str):
        self.page.goto(self.address + place, wait_until="load")
        self.page.evaluate("""async () => {
            await document.fonts.ready;
            for (let i = 0; i < 100 && [...document.querySelectorAll('.chart')].some((chart) => !chart.view); i++) await new Promise((done) => setTimeout(done, 50));
        }""")
        return self.page


@contextmanager
def opened_page(chromium, address, width=1280, dark=False, **options):
    context = chromium.new_context(viewport={"width": width, "height": 900},
                                   color_scheme="dark" if dark else "light", **options)
    yield Watched(context, address)
    context.close()
