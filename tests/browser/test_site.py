"""The site in a real browser: every page whole, readable and independent, and its moving parts
move rightly.
"""
import html
import json
import re
from configparser import ConfigParser
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
import yaml

from tinytorch.core.tensor import Tensor
from tinytorch.nn import HuberLoss
from tinytorch.site.pages import typeset
from tinytorch.site.reference import public_addresses

from places import ROOT, opened_page, package, screens

SIDEBAR = yaml.safe_dump(yaml.safe_load((ROOT / "_quarto.yml").read_text(
                                            encoding="utf-8"))["website"]["sidebar"])
PAGES = sorted({re.sub(r"\.\w+$", ".html", name)
                for name in re.findall(r"[\w/.]+\.(?:ipynb|qmd|md)", SIDEBAR)})
LESSON = "04_losses/losses_dev.html"
each_page = pytest.mark.parametrize("place", PAGES)


def test_every_page_is_listed(site):
    assert sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html")
                  if "site_libs" not in path.parts) == PAGES


# ---- every page

@pytest.fixture(scope="module", params=[(place, *look) for place in PAGES for look in ((1280, False), (390, True))],
                ids=lambda param: f"{param[0]}, {'dark and narrow' if param[2] else 'light and wide'}")
def opened(request, chromium, address):
    "Each page, open at a desk in daylight and on a telephone at night."
    place, width, dark = request.param
    with opened_page(chromium, address, width, dark) as watched:
        watched.open(place)
        yield watched


def test_page_is_whole(opened):
    "Nothing fails on the way, nothing is asked of another host, and what should be drawn is drawn."
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth <= "
                         "innerWidth"), "it is wider than the window"
    assert page.evaluate("[...document.querySelectorAll('main pre')].every((pre) => "
                         "pre.scrollWidth <= pre.clientWidth + 1)"), "code or an output is cut off"
    assert page.evaluate("[...document.querySelectorAll('.katex-display, .sd-table')].every((box) => "
                         "box.scrollWidth <= box.clientWidth + 1)"), "a formula or a table is cut off"
    formulas = page.evaluate("['.math', '.math .katex', '.katex-error', '.chart', '.chart "
                             "svg'].map((kind) => document.querySelectorAll(kind).length)")
    assert formulas[0] == formulas[1] and formulas[2] == 0, "formulas, formulas set, errors"
    assert formulas[3] == formulas[4], "charts, charts drawn"
    pictures = page.evaluate("""() => Promise.all([...document.images].map(async (image) => {
        image.loading = 'eager'; await image.decode().catch(() => 0); return [image.alt, image.naturalWidth, image.src.slice(0, 80)] }))""")
    assert [picture for picture in pictures
            if not (picture[0].strip()
                    and picture[1])] == [], "pictures without description or without pixels"
    assert opened.size() < 2_000_000
    assert not opened.problems and not opened.strangers


def test_page_says_what_it_is(opened):
    page = opened.page
    assert page.evaluate("document.documentElement.lang") == "en"
    assert (len(page.title()) > 10
            and len(page.locator("meta[name=description]").get_attribute("content")) > 20)
    levels = page.evaluate("[...document.querySelectorAll('main h1, main h2, main h3, main h4, "
                           "main h5, main h6')].map((h) => [+h.tagName[1], h.textContent.trim()])")
    assert [level for level, _ in levels].count(1) == 1 and all(text for _, text in levels)
    assert [pair for pair in zip(levels, levels[1:])
            if pair[1][0] > pair[0][0] + 1] == [], "a level is left out"


def test_page_is_accessible(opened):
    "axe-core finds no serious violation."
    opened.page.evaluate((package("axe-core") / "axe.min.js").read_text(encoding="utf-8"))
    found = opened.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(v["id"], len(v["nodes"]), v["nodes"][0]["html"][:200]) for v in found
            if v["impact"] in ("serious", "critical")] == []


# What a click at the middle of a link or a button would hit instead of it.
COVERED = """(box) => {
    box.scrollIntoView({block: 'center', behavior: 'instant'});
    const hits = [...box.getClientRects()].map((r) => document.elementFromPoint(
        r.left + r.width / 2, r.top + r.height / 2));
    return hits.some((hit) => box.contains(hit)) ? '' : `${hits[0]?.outerHTML}`.slice(0, 80);
}"""


def test_links_and_buttons_can_be_clicked(opened):
    "Nothing lies on them."
    covered = opened.page.evaluate(f"""() => [...document.querySelectorAll('main :is(a, button, summary)')]
        .filter((box) => box.checkVisibility()).map((box) => [box.outerHTML.slice(0, 80), ({COVERED})(box)])""")
    assert [pair for pair in covered if pair[1]] == []


# ---- headings and links

def twice(page: str) -> list:
    "The headings of a page that say what another says: `relu` under \"ReLU\"."
    text = page[page.index("<main"):]
    said = [re.sub(r"\W", "", html.unescape(re.sub("<[^>]*>", "", heading))).lower()
            for _, heading in re.findall(r"<h([1-6])\b[^>]*>(.*?)</h\1>", text, re.S)]
    return [heading for heading in {*said} if said.count(heading) > 1]


@each_page
def test_no_heading_stands_twice(site, place):
    assert not twice((site / place).read_text(encoding="utf-8"))


def test_a_heading_that_stands_twice_is_found():
    assert twice("<h1>a</h1><main><h1>A</h1><h2>Exercise: A</h2>") == []
    assert twice("<main><h2 id=x>ReLU</h2><p>…</p><h4><code>relu</code></h4>") == ["relu"]


@each_page
def test_only_public_names_are_links(site, place):
    "Of the names in code, those that a notebook makes and the reference lists."
    found = re.findall(r'<a href="([^"]+\.html#[^"]+)"[^>]*><code>[^<]*</code></a>',
                       (site / place).read_text(encoding="utf-8"))
    inside = [urljoin(place, address) for address in found if not urlsplit(address).scheme]
    assert not [address for address in inside
                if not address.startswith("reference/") and address not in public_addresses()]


class Links(HTMLParser):
    "The addresses and the anchors of a page."

    def __init__(self, text):
        super().__init__()
        self.addresses, self.anchors = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value is not None: self.addresses.append(value)
            if name in ("id", "name") and value: self.anchors.add(value)


@lru_cache(None)
def links(path: Path) -> Links:
    return Links(path.read_text(encoding="utf-8"))


@each_page
def test_links_lead_somewhere(site, place):
    "Every address inside the site is a file, and every anchor is in its page."
    lost = []
    for address in links(site / place).addresses:
        if urlsplit(address).scheme or address.startswith("//"): continue
        file, anchor = urldefrag(urljoin(place, address))
        target = site / unquote(file)
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or (
            anchor and target.suffix == ".html"
            and unquote(anchor) not in links(target).anchors): lost.append(address)
    assert not lost


@each_page
def test_launch_links_point_at_files(site, place):
    "Colab, Binder and JupyterLab are sent to notebooks that are in the repository."
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    settings, addresses = settings["DEFAULT"], links(site / place).addresses
    starts = [f"https://colab.research.google.com/github/{settings['user']}/{settings['repo']}/blob/{settings['branch']}/",
              f"https://mybinder.org/v2/gh/{settings['user']}/{settings['repo']}/{settings['branch']}?labpath=", "http://localhost:8888/lab/tree/"]
    sent = [address.removeprefix(start) for start in starts for address in addresses
            if address.startswith(start)]
    assert all((ROOT / path).is_file() for path in sent)
    assert len(sent) == (3 if re.match(r"\d\d_", place) else 0)
    if sent: assert re.search(r"%pip install -q .*git\+" + re.escape(settings["git_url"]),
                              (ROOT / sent[0]).read_text(encoding="utf-8")), "Colab needs the package"
    if sent: assert (site / "notebooks" / place.replace(".html", ".ipynb")).is_file()


def test_no_page_needs_another_host(site):
    "No script, style, font or picture comes from elsewhere, in no file."
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        assert not re.findall(
            r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^"'>\s]+""",
            text), path
        assert (not re.findall(r"""(?:@import|url\()\s*["']?(?:https?:)?//[^)"']+""", text)
                or path.suffix != ".css"), path


# ---- formulas, and how long the lesson is

def test_formulas_are_set_when_the_site_is_built(watch):
    "They show without scripts, with their mathematics for screen readers, and KaTeX stays at home."
    watched = watch(java_script_enabled=False)
    watched.page.goto(watched.address + LESSON)
    count = watched.page.locator(".math").count()
    assert count > 50 and watched.page.locator(".math math").count() == count
    assert watched.page.locator("script[src*=katex]").count() == 0


def test_typeset(site):
    "Each formula in its kind; what is no formula stays; a wrong one does not stop the build."
    page = ('<script src="https://x/npm/katex@0.16.11/dist/katex.min.js"></script><p>a &lt; b</p>'
            r'<span class="math inline">\(a &lt; b\)</span>'
            r'<span class="math display">\[\frac{1}{2}\]</span>')
    done = typeset(page, package("katex"))
    assert "<script" not in done and "<p>a &lt; b</p>" in done and done.count("katex-display") == 1
    assert r'encoding="application/x-tex">a &lt; b<' in done and "mfrac" in done
    assert "katex-error" in typeset(r'<span class="math inline">\(\frac{1\)</span>', package("katex"))
    assert typeset("no formula", package("katex")) == "no formula"


def test_the_lesson_is_not_too_long(watch):
    "Of windows of 1280 x 800, before anything is unfolded."
    page = watch().open(LESSON)
    page.set_viewport_size({"width": 1280, "height": 800})
    assert screens(page) < 45
    page.evaluate("document.querySelectorAll('main details').forEach((fold) => fold.open = true)")
    assert screens(page) > 45, "nothing was folded"


def test_little_is_loaded_before_cells_run(watch, site):
    """At 1.6 Mbit/s a second loads 200 kB: the text, its styles and the cells are there in under 2.

    Vega, fonts and pictures come later. `python tests/browser/measure.py` takes the time.
    """
    page = watch().open(LESSON)
    sizes = page.evaluate("""performance.getEntriesByType('navigation').concat(
        performance.getEntriesByType('resource')).map((entry) => [entry.name, entry.encodedBodySize])""")
    early = {name: size for name, size in sizes
             if not re.search(r"/vega/|\.(woff2|webp|svg)\b", name)}
    assert 100_000 < sum(early.values()) < 300_000, early
    assert sum(size for name, size in sizes if "/vega/" in name) > 200_000
    written = (site / LESSON).read_text(encoding="utf-8")
    assert not re.findall(r'<script[^>]* src="[^"]*/vega/', written)


# ---- the moving parts

def test_search_finds(watch):
    page = watch().open("index.html")
    page.fill("input[type=search]", "label smoothing")
    page.wait_for_selector(".search-result")
    assert "losses_dev.html" in page.locator(".search-result").first.get_attribute("href")
    page.locator(".search-result").first.click()
    page.wait_for_url("**/losses_dev.html*")
    assert "label smoothing" in page.inner_text("main").lower()


def numbers(page, chart: int = 0) -> dict:
    "The values that a chart writes beside its dots."
    return page.evaluate("""(chart) => { const view = document.querySelectorAll('.chart')[chart].view; const found = {};
        for (const text of view.scenegraph().root.items[0].items.flatMap((mark) => mark.items || []).filter((item) => item.text !== undefined && item.datum && item.datum.of))
            found[item_of(text)] = [text.datum.x, text.datum.y]; return found; function item_of(item) { return item.datum.of } }""", chart)


def choose(page, chart, name, value):
    "Move a slider as a reader does."
    slider = page.locator(".chart").nth(chart).get_by_role("slider", name=name)
    slider.scroll_into_view_if_needed()
    slider.fill(str(value))
    page.wait_for_timeout(100)


@pytest.mark.parametrize("place, words", [
    ("chooser", "quantile"), ("functional", "cross_entropy"), ("differences", "reduction")])
def test_filter_boxes(watch, place, words):
    "Rows that lack a word of the box go, and what has no row left; they come back."
    page = watch().open(f"04_losses/{place}_dev.html")
    box = page.get_by_label("Filter").first
    rows = page.locator(".filter").first.locator("tbody tr")
    texts = [text.lower() for text in rows.all_text_contents()]
    fits = [all(word in text for word in words.split()) for text in texts]
    assert 0 < sum(fits) < len(fits)
    box.focus()
    page.keyboard.type(words.upper())
    assert [rows.nth(i).is_visible() for i in range(len(fits))] == fits
    said = page.locator(".filter [role=status]").first
    assert said.inner_text() == f"{sum(fits)} of {len(fits)} rows"
    box.fill("no row has this")
    assert not any(table.is_visible() for table in page.locator(".filter").first.locator("table").all())
    box.fill("")
    assert all(row.is_visible() for row in rows.all())


@pytest.mark.parametrize("place, name", [
    ("04_losses/chooser_dev.html", "MSELoss"), ("reference/losses.html", "reduction")])
def test_rows_are_cards_on_a_telephone(watch, place, name):
    "Every cell in sight, with the name of its column."
    page = watch(390).open(place)
    row = page.locator(":is(.filter, .cards) tr", has_text=name).first
    heads = row.locator("xpath=ancestor::table").locator("thead th").all_text_contents()
    cells = [cell for cell in row.locator("td").all() if cell.text_content()]
    assert len(cells) > 3
    for cell, head in list(zip(row.locator("td").all(), heads))[1:]:
        said = cell.evaluate("(cell) => getComputedStyle(cell, '::before').content")
        assert head in said
    edges = [cell.bounding_box() for cell in cells]
    assert all(0 <= edge["x"] and edge["x"] + edge["width"] <= 390 for edge in edges)


def chart_of(page, words) -> int:
    "Which chart of the page has these words in its description."
    descriptions = page.evaluate("[...document.querySelectorAll('.chart')].map((chart) => "
                                 "chart.getAttribute('aria-label'))")
    return next(i for i, text in enumerate(descriptions) if words in text)


@pytest.mark.parametrize("delta, prediction", [(0.5, 2.0), (3.0, -2.5), (1.0, 0.0)])
def test_slider_moves_the_point(watch, delta, prediction):
    "Huber's loss under its sliders: the dots are where the formula says."
    page = watch().open(LESSON)
    chart = chart_of(page, "huber")
    choose(page, chart, "delta", delta)
    choose(page, chart, "prediction", prediction)
    x = Tensor([prediction], requires_grad=True)
    loss = HuberLoss(delta=delta)(x, [0.0])
    loss.backward()
    dots = numbers(page, chart)
    assert dots["loss"] == pytest.approx([prediction, loss.item()], rel=1e-3, abs=1e-6)
    assert dots["slope"] == pytest.approx([prediction, x.grad[0]], rel=1e-3, abs=1e-6)


def drawn(page, chart) -> list:
    "The curves of a chart, as they are drawn, the ghosts first."
    return page.locator(".chart").nth(chart).locator(".mark-line path").evaluate_all(
        "(paths) => paths.map((path) => path.getAttribute('d'))")


def written(page, chart) -> list:
    "The words in a chart: the numbers of its axes, and what it says."
    return page.locator(".chart").nth(chart).locator("svg text").all_text_contents()


def test_axes_and_ghost_stay_while_a_slider_moves(watch):
    page = watch().open(LESSON)
    chart = chart_of(page, "huber and its slope")
    ticks = page.locator(".chart").nth(chart).locator(".role-axis-label text")
    before, numbers_before = drawn(page, chart), ticks.all_text_contents()
    assert len(before) == 4 and before[:2] == before[2:]
    slider = page.locator(".chart").nth(chart).get_by_role("slider", name="delta")
    slider.focus()
    for _ in range(3): page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert float(slider.input_value()) == 1.75
    after = drawn(page, chart)
    assert after[:2] == before[:2] and after[2] != before[2] and after[3] != before[3]
    assert ticks.all_text_contents() == numbers_before
    choose(page, chart, "prediction", 3)
    assert {f"loss {1.75 * (3 - 1.75 / 2):.2f}", "slope 1.75"} <= {*written(page, chart)}


def lines_of(page, chart) -> dict:
    "What the chart on data says of its lines: the rise of each."
    return {
        name: float(rise.replace(" ", "")) for name, rise in re.findall(
            r"^(.+): -?[\d.]+ ([+-] [\d.]+) x$", "\n".join(written(page, chart)), re.M)}


def test_lines_follow_the_outlier(watch):
    "By the slider, with keys, and by dragging the point; absolute errors care least."
    page = watch().open(LESSON)
    chart = chart_of(page, "points and their best lines")
    slider = page.locator(".chart").nth(chart).get_by_role("slider", name="outlier")
    slider.scroll_into_view_if_needed()
    start = lines_of(page, chart)
    assert list(start) == ["squared error", "absolute error", "Huber, δ = 1"]
    slider.focus()
    for _ in range(8): page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(200)
    moved = lines_of(page, chart)
    change = [abs(moved[name] - start[name]) for name in start]
    assert slider.input_value() == "10" and change[0] > 3 * change[2] > 0 and change[0] > 5 * change[1]
    point = page.locator(".chart").nth(chart).locator("path[fill='#b3261e'][opacity='1']")
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"], box["y"] - 120, steps=5)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert int(slider.input_value()) > 14 and lines_of(page, chart) != moved
    page.mouse.move(box["x"], box["y"])
    page.wait_for_timeout(100)
    assert int(slider.input_value()) > 14, "it moved without being held"


def test_dark_mode_is_kept(watch):
    "The switch changes the colours and the pictures, and the next page remembers."
    page = watch().open(LESSON)
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = ground()
    page.click(".quarto-color-scheme-toggle")
    page.wait_for_timeout(300)
    dark = ground()
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 200 < sum(
        map(int, re.findall(r"\d+", light)[:3]))
    assert "invert" in page.evaluate("getComputedStyle(document.querySelector('main img')).filter")
    page.click(".nav-page-next a")
    page.wait_for_load_state()
    assert ground() == dark


@pytest.mark.parametrize("width, dark", [(1280, False), (1280, True), (390, True)])
def test_the_keyboard_reaches_everything(watch, width, dark):
    "Tab leads through the lesson without a trap; the place is in sight, with a ring around it."
    page = watch(width, dark).open(LESSON)
    page.wait_for_selector(".run-button", state="attached")
    page.add_style_tag(content="* { scroll-behavior: auto !important }")
    count = page.evaluate("""() => {
        window.controls = new Set([...document.querySelectorAll('a[href], button, input, textarea, select, summary, [tabindex]')]
            .filter((box) => box.checkVisibility({visibilityProperty: true}) && !box.disabled && box.tabIndex >= 0));
        window.unclear = [];
        document.addEventListener('focusin', ({target}) => {
            controls.delete(target);
            const style = getComputedStyle(target), box = target.getClientRects()[0];
            const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
            const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
            if (!ring || !inside) unclear.push(target.outerHTML.slice(0, 80));
        });
        return controls.size;
    }""")
    assert count > 300
    for _ in range(2 * count):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"): break
    assert page.evaluate("[...controls].map((box) => box.outerHTML.slice(0, 80))") == []
    assert page.evaluate("unclear") == []


def test_the_keyboard_skips_to_the_text_and_opens_the_sidebar(watch):
    page = watch().open(LESSON)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "MAIN"
    shut = page.locator("#quarto-sidebar button.sidebar-item-text[aria-expanded=false]").first
    target = shut.get_attribute("data-bs-target")
    button = page.locator(f"button.sidebar-item-text[data-bs-target='{target}']")
    button.press("Enter")
    page.wait_for_selector(f"{target}.collapse.show")               # whole, no longer moving
    button.press("Space")
    page.wait_for_selector(f"{target}.collapse:not(.show)", state="attached")


def test_a_telephone_lists_the_sections(watch):
    page = watch(390).open(LESSON)
    contents = page.locator("main > details.contents")
    contents.locator("summary").click()
    names = contents.locator("a")
    assert names.count() > 15
    names.nth(9).click()
    page.wait_for_url("**#" + names.nth(9).get_attribute("href").removeprefix("#"))
    page.set_viewport_size({"width": 1280, "height": 800})
    assert not contents.is_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_is_printed_light_and_without_its_frame(watch, dark):
    page = watch(dark=dark).open(LESSON)
    shown = """[...document.querySelectorAll('#quarto-header, #quarto-sidebar, .page-navigation')]
        .some((part) => part.checkVisibility())"""
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {ground} }})")
    page.pdf(format="A4")
    assert page.evaluate("printed") == "rgb(255, 255, 255)"
    assert page.evaluate(ground) == before and page.evaluate(shown)
    page.emulate_media(media="print")
    assert not page.evaluate(shown)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_copy_button(watch):
    watched = watch(permissions=["clipboard-read", "clipboard-write"])
    page = watched.open("index.html")
    code = page.locator("pre.sourceCode").first
    code.hover()
    page.locator(".code-copy-button").first.click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == code.inner_text().strip()


def test_pages_follow_each_other(watch):
    "Next leads on and previous leads back; the contents are on every wide page."
    page = watch().open(LESSON)
    page.click(".nav-page-next a")
    page.wait_for_load_state()
    assert LESSON not in page.url and page.locator("nav[role=doc-toc] a").count() >= 3
    page.click(".nav-page-previous a")
    page.wait_for_url("**/" + LESSON)


def test_menu_on_a_telephone(watch):
    page = watch(390).open(LESSON)
    edge = "document.querySelector('#quarto-sidebar').getBoundingClientRect().right"
    assert page.evaluate(edge) <= 0
    page.click(".quarto-btn-toggle")
    page.wait_for_function(f"{edge} > 200")
    page.locator("#quarto-sidebar a", has_text="Which loss do I need?").click()
    page.wait_for_url("**/chooser_dev.html")


def test_site_works_from_a_folder(site, watch):
    "Without any server: formulas, charts and search."
    watched = watch(address=site.as_uri() + "/")
    page = watched.open(LESSON)
    assert page.locator(".katex").count() > 50 and numbers(page)
    page.fill("input[type=search]", "label smoothing")
    page.wait_for_selector(".search-result")
    page.locator(".search-result").first.click()
    page.wait_for_load_state()
    assert "losses_dev.html" in page.url and not watched.strangers and not watched.problems


# ---- cells that run in the page

def with_pyodide(page, place="pyodide/"):
    "Lets the page find Pyodide at `place` of this server instead of the configured address."
    def answer(route):
        response = route.fetch()
        route.fulfill(response=response,
                      body=re.sub(r'(<meta name="pyodide" content=")[^"]*', rf"\g<1>/{place}",
                                  response.text()))
    page.route("**/*.html", answer)


def run_cell(page, i: int, code=None) -> str:
    "Run the page's cell `i`, with other code in it if given; what it then shows."
    page.evaluate("document.querySelectorAll('main details').forEach((fold) => fold.open = true)")
    if code is not None: page.evaluate("([i, code]) => { document.querySelectorAll('.cell "
                                       ".cell-code code')[i].textContent = code }",
                                       [i, code])
    page.locator(".run-button").nth(i).click()
    page.wait_for_function("(i) => !document.querySelectorAll('.run-button')[i].disabled", arg=i,
                           timeout=60000)
    return page.locator(".run-output").nth(i).inner_text()


def test_without_python_the_page_says_so(watch):
    watched = watch()
    with_pyodide(watched.page, "nowhere/")
    page = watched.open(LESSON)
    assert "Download the notebook" in run_cell(page, 0)
    assert page.locator(".katex").count() > 50


def test_cells_run_in_the_page(watch):
    """With what npm's package of Pyodide holds:

    Python, its output, its errors, and the project's package; not NumPy.
    """
    package("pyodide")
    watched = watch()
    with_pyodide(watched.page)
    watched.page.route("**/losses_dev.ipynb.json", lambda route: route.fulfill(json=[]))
    page = watched.open(LESSON)
    assert run_cell(page, 0, "print('six', end=' ')\n6 * 7").split() == ["six", "42"]
    assert "NumPy could not be loaded" in page.locator(".run-note").inner_text()
    assert run_cell(
        page, 0,
        "from importlib.util import "
        "find_spec\nfind_spec('tinytorch.nn.losses').origin").endswith("tinytorch/nn/losses.py'")
    said = run_cell(page, 0, "x = 1\nx / 0")
    assert "line 2" in said and "ZeroDivisionError" in said and "pyodide" not in said
    assert "ModuleNotFoundError" in run_cell(page, 0, "import numpy")
    assert run_cell(
        page, 0, "class Rich:\n    def _repr_html_(self): return '<b>bold</b>'\nRich()") == "bold"
    chart = {"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a"}}}
    run_cell(page, 0,
             "class Chart:\n    def _repr_mimebundle_(self, include=None, exclude=None): return "
             f"{{'application/vnd.vegalite.v5+json': {chart}}}\nChart()")
    page.wait_for_selector(".run-output .chart svg")
    assert run_cell(page, 0, "x = 3") == "Done." and run_cell(page, 0, "x") == "3"
    assert not watched.strangers


def test_cells_before_run_first(watch, site):
    """A cell that is run gets the cells before it, also those that the page does not show, each
    once.
    """
    package("pyodide")
    watched = watch()
    page = watched.page
    with_pyodide(page)
    page.goto(watched.address + LESSON)
    shown = [text.strip() for text in page.locator(".cell .cell-code code").all_text_contents()]
    cells = json.loads((site
                        / "notebooks/04_losses/losses_dev.ipynb.json").read_text(encoding="utf-8"))
    assert [text for text in shown
            if text not in [text for cell in cells
                for text in (cell["code"], (cell["exercise"] or {}).get("blank"))]] == [], (
        "cells of the page that the file lacks")
    page.route("**/losses_dev.ipynb.json",
               lambda route: route.fulfill(json=[{"code": code, "alone": code == "alone = True"}
                                                 for code in (
                                                     "count = 1", "count += 1", "alone = True",
                                                     shown[1], "count += 10", shown[2])]))
    page.reload()
    assert (run_cell(page, 1, "count") == "2" and run_cell(page, 1, "count") == "2"
            and run_cell(page, 2, "count") == "12")
    assert "NameError" in run_cell(page, 0, "alone")


def test_a_cell_that_fails_stops_the_others_once(watch):
    "What comes after it waits, is told why, and can go on without it."
    package("pyodide")
    watched = watch()
    page = watched.page
    with_pyodide(page)
    page.goto(watched.address + LESSON)
    shown = [text.strip() for text in page.locator(".cell .cell-code code").all_text_contents()]
    page.route("**/losses_dev.ipynb.json",
               lambda route: route.fulfill(json=[{"code": code, "alone": False}
                                                 for code in (
                                                     "y = 1", "1 / 0", "y += 1", shown[0])]))
    page.reload()
    said = run_cell(page, 0, "y")
    assert "ZeroDivisionError" in said and "goes on without it" in said
    assert run_cell(page, 0) == "2"
