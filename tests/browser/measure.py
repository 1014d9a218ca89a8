"""How long the pages of the lesson are, and how soon they can be used on a slow connection.

    python tests/browser/measure.py [page ...]

Builds nothing: run `tito docs` first.
"""
import functools
import http.server
import sys
import threading

from conftest import Handler, launched
from places import ROOT, SLOW, screens, slowed

LESSON = ["04_losses/losses_dev.html", "04_losses/losses_use_dev.html", "index.html"]
READY = """() => document.readyState !== 'loading'
    && (!document.querySelector('meta[name=pyodide]') || document.querySelector('.run-button'))"""
DRAWN = "() => [...document.querySelectorAll('.chart')].every((chart) => chart.view)"
LOADED = """() => performance.getEntriesByType('navigation').concat(
    performance.getEntriesByType('resource')).map((entry) => [
        entry.name.split('/').pop() || 'index.html', Math.round(entry.encodedBodySize / 1000),
        Math.round(entry.startTime), Math.round(entry.responseEnd)])"""


def main(pages: list) -> None:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(ROOT / "_docs")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with launched() as browser:
        for place in pages:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            slowed(page)
            answer = page.goto(f"http://127.0.0.1:{server.server_port}/{place}", wait_until="commit")
            if not answer.ok: sys.exit(f"{place}: {answer.status} {answer.status_text}")
            page.wait_for_function(READY, timeout=120_000)
            usable = page.evaluate("performance.now()") / 1000
            page.wait_for_function(DRAWN, timeout=120_000)
            drawn = page.evaluate("performance.now()") / 1000
            painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]"
                                    "?.startTime ?? 0") / 1000
            loaded = page.evaluate(LOADED)
            page.wait_for_load_state("load")
            print(f"{place}: text after {painted:.1f} s, cells run after {usable:.1f} s, "
                  f"charts drawn after {drawn:.1f} s at {SLOW['downloadThroughput'] * 8 / 1e6:.1f} "
                  f"Mbit/s and {SLOW['latency']} ms; {screens(page):.1f} screens of 1280 x 800 px")
            for name, size, start, end in sorted(loaded, key=lambda entry: entry[3]):
                print(f"    {size:5} kB  {start:6} to {end:6} ms  {name}")
            page.close()


if __name__ == "__main__":
    main(sys.argv[1:] or LESSON)
