"""Every page of the built site, as a reader meets it."""

import json
import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from house import ROOT, serving, weight

from attnbook import book

BOOK = book.load(ROOT)
CHAPTERS = [page for page in BOOK.pages if BOOK.source(page).suffix == ".ipynb"]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
HEAVIEST = 600_000  # bytes, compressed


@cache
def notebook(page):
    return nbformat.read(BOOK.source(page), as_version=4)


@pytest.mark.parametrize("name", BOOK.pages)
def test_opens_with_all_its_explorers_and_is_light(open_page, name):
    page = open_page(name)
    page.wait_for_load_state("networkidle")
    cells = notebook(name).cells if name in CHAPTERS else []
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    views = sum("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    figures = sum("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert page.locator(".explorer[data-ready] [data-explorer], p.no-kernel").count() == views
    assert page.locator(".explorer .no-kernel").count() == 0
    assert page.locator("figure.plot > svg[role=img][aria-label]").count() == figures
    assert weight(page) <= HEAVIEST


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", [*BOOK.pages, "search?q=attention"])
def test_nothing_serious_in_the_way_of_accessibility(open_page, name, theme):
    page = open_page(name, theme=theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    # Half of a page's elements are tokens of code, and axe asks each for its contrast: one of a kind is enough.
    page.evaluate("""() => {
      const seen = new Set();
      for (const token of document.querySelectorAll(".highlight pre span:not(:has(*))")) {
        if (seen.has(token.className)) token.replaceWith(token.textContent);
        seen.add(token.className);
      }
    }""")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        f"{violation['id']}: {node['target']} {node['html'][:200]} {node.get('failureSummary')}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:5]
    ]
    assert serious == []


@pytest.mark.parametrize("name", [*BOOK.pages, "search?q=attention"])
def test_fits_a_phone(open_page, name):
    page = open_page(name, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("name", CHAPTERS)
def test_stays_put_while_it_loads(open_page, name):
    page = open_page(name)
    page.wait_for_load_state("networkidle")
    shift = page.evaluate(
        """() => new Promise((done) => {
          let sum = 0;
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) sum += entry.value;
          }).observe({ type: "layout-shift", buffered: true });
          setTimeout(() => done(sum), 200);
        })"""
    )
    assert shift <= 0.1


@pytest.mark.parametrize("name", CHAPTERS)
def test_equations_show_their_numbers(open_page, name):
    text = "\n".join(cell.source for cell in notebook(name).cells if cell.cell_type == "markdown")
    tags = re.findall(r"\\tag\{([^{}]+)\}", text)
    page = open_page(name)
    assert page.locator(".katex-html > .tag").all_inner_texts() == [f"({tag})" for tag in tags]
    for tag in tags:
        assert page.locator(f"[id='eq-{tag.replace('.', '-')}']").count() == 1
    assert page.locator(".katex-error").count() == 0


@pytest.mark.parametrize("name", CHAPTERS)
def test_launch_buttons(open_page, name):
    page = open_page(name)
    links = page.locator(".dropdown-launch-buttons a")
    owner = BOOK.repository.removeprefix("https://github.com/")
    assert [link.get_attribute("href") for link in links.all()] == [
        f"https://mybinder.org/v2/gh/{owner}/{BOOK.branch}?urlpath=lab/tree/notebooks/{name}.ipynb",
        f"https://colab.research.google.com/github/{owner}/blob/{BOOK.branch}/notebooks/{name}.ipynb",
    ]
    page.locator(".dropdown-launch-buttons > button").click()
    assert links.first.is_visible()
    assert page.locator("a.btn-source-repository-button").get_attribute("href") == BOOK.repository


def test_the_bare_address_opens_the_book(open_page):
    titles = [open_page(name).locator(".bd-article h1").inner_text() for name in ("index", BOOK.pages[0])]
    assert titles[0] == titles[1]


def test_previous_and_next_lead_through_the_book(open_page):
    page = open_page(BOOK.pages[0])
    for name in BOOK.pages[1:]:
        page.locator("a.right-next").click()
        page.wait_for_url(f"**/{name}.html")
    assert page.locator("a.right-next").count() == 0


def test_search_finds_a_word_of_a_chapter(open_page):
    page = open_page(BOOK.pages[0])
    page.keyboard.press("Control+k")
    page.keyboard.type("bandwidth")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=bandwidth")
    hit = page.locator("#search-results .search a[href*='02-soft-lookup.html']").first
    hit.wait_for()
    quoted = page.locator("#search-results .search p.context").first
    quoted.wait_for()
    assert "bandwidth" in quoted.inner_text().lower() and "System Settings" not in quoted.inner_text()
    hit.click()
    page.wait_for_url("**/02-soft-lookup.html*")


def test_theme_switch_is_remembered(open_page):
    page = open_page(BOOK.pages[0])
    shown = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(shown)
    page.locator(".theme-switch-button").click()
    page.locator(".theme-change-button[data-mode=dark]").click()
    assert page.evaluate(shown) != light
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_reads_without_javascript(open_page):
    name = next(name for name in CHAPTERS if "widgets" in notebook(name).metadata)
    page = open_page(name, java_script_enabled=False)
    assert page.locator(".bd-article h1").is_visible()
    assert "This explorer needs JavaScript" in page.locator(".explorer noscript").first.inner_text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.problems.clear()  # the modules, announced in the page's head and then refused


# The host of the explorers, on pages of its own

STUB = """
export default {
  render({ model, el }) {
    const root = document.createElement("section");
    root.dataset.explorer = "stub";
    const log = [];
    const show = () => { root.textContent = `${model.get("n")} ${model.get("list")} ${log}`; };
    model.on("change:n", (_, value) => { log.push(value); show(); });
    show();
    root.model = model;
    el.append(root);
  },
};
"""


def host_page(folder: Path, body: str, states: dict) -> None:
    (folder / "_static" / "widgets").mkdir(parents=True)
    shutil.copy(ROOT / "site" / "static" / "host.js", folder / "_static")
    (folder / "_static" / "widgets" / "stub.js").write_text(STUB)
    (folder / "_static" / "widgets" / "broken.js").write_text("export default { render() { throw new Error('no'); } };")
    state = json.dumps({"state": states})
    (folder / "page.html").write_text(
        f'<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>t</title>{body}'
        f'<script type="application/vnd.jupyter.widget-state+json">{state}</script>'
        '<script type="module" src="_static/host.js"></script></html>'
    )


def placeholder(name: str, model: str) -> str:
    view = json.dumps({"model_id": model})
    script = f'<script type="application/vnd.jupyter.widget-view+json">{view}</script>'
    return f'<div class="explorer" data-widget="{name}">{script}</div>'


def test_host_shares_a_model_between_its_views(open_page, tmp_path):
    views = placeholder("stub", "m") + placeholder("stub", "m") + placeholder("stub", "other")
    host_page(tmp_path, views, {"m": {"state": {"n": 1, "list": [1, 2]}}, "other": {"state": {"n": 9, "list": []}}})
    with serving(tmp_path) as address:
        page = open_page("page", site=address)
        roots = page.locator("[data-explorer]")
        assert roots.all_inner_texts() == ["1 1,2", "1 1,2", "9"]
        page.evaluate("document.querySelector('section').model.set('n', 2)")
        assert roots.all_inner_texts() == ["2 1,2 2", "2 1,2 2", "9"]
        events = page.evaluate(
            """() => {
              const { model } = document.querySelector("section");
              const heard = [];
              const hear = (_, value) => heard.push(value);
              model.on("change:list", hear);
              model.set("list", [1, 2]);       // equal: nothing to say
              model.set("list", [1, 3]);
              model.off("change:list", hear);
              model.set("list", []);
              model.save_changes();
              return heard;
            }"""
        )
        assert events == [[1, 3]]


@pytest.mark.parametrize(("name", "model"), [("broken", "m"), ("missing", "m"), ("stub", "unsaved")])
def test_host_says_so_when_an_explorer_cannot_start(open_page, tmp_path, name, model):
    host_page(tmp_path, placeholder(name, model) + placeholder("stub", "m"), {"m": {"state": {"n": 1, "list": []}}})
    with serving(tmp_path) as address:
        page = open_page("page", site=address)
        assert "could not start" in page.locator(".explorer").first.inner_text()
        assert page.locator(".explorer").last.inner_text() == "1"
        assert page.problems
        page.problems.clear()


# The files of the site


class Links(HTMLParser):
    """What a page links to and loads, and the places in it that can be linked to."""

    LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "use": "href"}

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if attributes.get(self.LOADS.get(tag)):
            self.loads.append(attributes[self.LOADS[tag]])


@pytest.fixture(scope="module")
def pages(site):
    return {path.name: Links(path) for path in (ROOT / "_site").glob("*.html")}


def test_every_link_within_the_book_leads_somewhere(pages):
    dead = []
    for name, page in pages.items():
        for link in page.links + page.loads:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = unquote(url.path) or name
            if not (ROOT / "_site" / target).is_file():
                dead.append(f"{name}: {link}")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                dead.append(f"{name}: {link}")
    assert dead == []


def test_everything_loaded_is_the_sites_own(pages):
    for name, page in pages.items():
        assert not [load for load in page.loads if urlsplit(load).netloc], name
    for path in (ROOT / "_site" / "_static").rglob("*"):
        if path.suffix in (".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert not re.findall(r"""(?:url\(|@import |import\(| from ) *["']?(?:https?:)?//[^\s"')]+""", text), path
            for url in re.findall(r"""url\(["']?([^"')]+)""", text) if path.suffix == ".css" else []:
                assert url.startswith(("data:", "#")) or (path.parent / url.partition("?")[0]).is_file(), (path, url)
