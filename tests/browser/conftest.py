"""A real browser on the built site, with every name but the site's own address cut off."""

import gzip
import os
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from attnbook import book
from attnbook.cli import BROWSERS, server

ROOT = Path(__file__).resolve().parents[2]
NO_BROWSER = "NO BROWSER: set ATTNBOOK_CHROMIUM, or install one (Debian, Ubuntu: sudo apt-get install chromium)"


@pytest.fixture(scope="session")
def browser():
    """Chromium, resolving no name at all. Without one the tests are skipped, under CI they fail."""
    names = (os.environ.get("ATTNBOOK_CHROMIUM", ""), *BROWSERS)
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_BROWSER)
    quiet = ["quic", "component-update", "sync", "background-networking"]
    cut = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", cut, *(f"--disable-{name}" for name in quiet)],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site():
    """The address of the built site; it is built first if it is not there."""
    folder = ROOT / "_site"
    if not folder.is_dir():
        book.build(ROOT)
    with serving(folder) as address:
        yield address


class serving:
    """Serve a folder on a free port of this machine."""

    def __init__(self, folder: Path):
        self.http = server(folder)

    def __enter__(self) -> str:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.http.server_port}/"

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def open_page(browser, site):
    """`open_page("01-softmax", theme="dark", width=360)` opens a page and waits for its explorers.

    The page has two lists of its own: `problems` (console and script errors, failed and off-origin requests), which
    must be empty when the test ends, and `responses`.
    """
    opened = []

    def open_page(name: str, theme: str = "light", width: int = 1280, height: int = 900, **context) -> Page:
        base = context.pop("site", site)
        viewport = {"width": width, "height": height}
        page = browser.new_context(viewport=viewport, color_scheme=theme, **context).new_page()
        page.set_default_timeout(30_000)
        opened.append(watch(page, base))
        path, mark, rest = name.partition("?")
        page.goto(f"{base}{path}.html{mark}{rest}", wait_until="load")
        if context.get("java_script_enabled", True):
            page.wait_for_function("!document.querySelector('.explorer:not([data-ready], :has(> .no-kernel))')")
        return page

    yield open_page
    for page in opened:
        page.context.close()
    assert [problem for page in opened for problem in page.problems] == []


def watch(page: Page, base: str) -> Page:
    """Start the page's lists of problems and responses."""
    page.problems, page.responses = [], []

    def on_request(request):
        if not request.url.startswith((base, "data:", "blob:")):
            page.problems.append(f"off-origin request: {request.url}")

    def on_response(response):
        page.responses.append(response)
        if response.status >= 400:
            page.problems.append(f"{response.status}: {response.url}")

    def on_console(message):
        if message.type in ("error", "warning"):
            page.problems.append(f"console {message.type}: {message.text}")

    page.on("request", on_request)
    page.on("response", on_response)
    page.on("requestfailed", lambda request: page.problems.append(f"failed: {request.url} ({request.failure})"))
    page.on("console", on_console)
    page.on("pageerror", lambda error: page.problems.append(f"script error: {error}"))
    return page


def weight(page: Page) -> int:
    """What the page and all it asked for weigh in bytes, each file compressed as a server would send it."""
    return sum(len(gzip.compress(response.body(), 6)) for response in page.responses if response.url.startswith("http"))
