"""A browser on the built site.

Needs Chromium, `pip install -e .[browser]` and npm; without them these tests are skipped.
"""
import functools
import gzip
import http.server
import os
import shutil
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

try: import fcntl
except ImportError: fcntl = None           # Windows

from places import ROOT, lacking, opened_page, package
from tinytorch.site.site import SiteError, build_site

# A new profile, and none of Chromium's own errands on the network.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def newest(*folders: Path) -> float:
    return max(path.stat().st_mtime for folder in folders
               for path in ([folder] if folder.is_file() else folder.rglob("*"))
               if path.is_file() and "__pycache__" not in path.parts)


@contextmanager
def alone(path: Path):
    "Wait until no other process of this test run is here."
    with path.open("w") as file:
        if fcntl: fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def site() -> Path:
    "The folder of the site, built anew if something it is made of has changed."
    home = ROOT / "_docs/index.html"
    with alone(ROOT / ".building"):
        if not home.exists() or home.stat().st_mtime < newest(
            ROOT / "nbs", ROOT / "tinytorch", ROOT / "_quarto.yml", ROOT / "settings.ini"):
            try: build_site(ROOT)
            except SiteError as error:
                if sys.version_info < (3, 11): pytest.skip(str(error))
                raise
    return home.parent


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site, texts compressed as hosts do, and under /pyodide/ what npm's package holds.
    """

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".css", ".js", ".json",
                               ".svg") or not path.is_file(): return super().do_GET()
        text = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        for name, value in (("Content-Type", self.guess_type(str(path))),
                            ("Content-Encoding", "gzip"), ("Content-Length", len(text))):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text)

    def translate_path(self, path):
        place = unquote(urlsplit(path).path)
        if place.startswith("/pyodide/"): return str(package("pyodide")
                                                     / place.removeprefix("/pyodide/"))
        return super().translate_path(path)

    def log_message(self, *words): pass


@pytest.fixture(scope="session")
def address(site) -> str:
    "Where the site is served."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                             functools.partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@contextmanager
def launched():
    "A headless Chromium."
    try: from playwright.sync_api import sync_playwright
    except ImportError: lacking("Playwright is missing: pip install -e .[browser]")
    path = (os.environ.get("CHROMIUM") or shutil.which("chromium")
            or shutil.which("chromium-browser") or shutil.which("google-chrome"))
    if not path: lacking("no Chromium: apt-get install chromium, or name one in the environment "
                         "variable CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def chromium():
    with launched() as browser: yield browser


@pytest.fixture
def watch(chromium, address):
    "Makes pages: `watch(width=390, dark=True)`."
    with ExitStack() as stack:
        yield (
            lambda width=1280, dark=False, address=address, **options: stack.enter_context(
                opened_page(chromium, address, width, dark, **options)))
