"""Fixtures: a real browser on the built site, with every name but the site's own address cut off."""

import os

import pytest
import stage
from house import ROOT, NoBrowser, chromium, serving, watch
from playwright.sync_api import Page

from attnbook import book


@pytest.fixture(scope="session")
def browser():
    """Chromium. Without one the tests are skipped, under CI they fail."""
    try:
        with chromium() as browser:
            yield browser
    except NoBrowser as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))


@pytest.fixture(scope="session")
def site():
    """The address of the built site; it is built first if it is not there."""
    folder = ROOT / "_site"
    if not folder.is_dir():
        book.build(ROOT)
    with serving(folder) as address:
        yield address


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


@pytest.fixture(scope="module")
def theatre(browser):
    """Stages explorers, each on a page of its own."""
    with stage.theatre(browser) as theatre:
        yield theatre


@pytest.fixture
def show(theatre):
    """`show(widget, width=360)` is a stage with this explorer on it."""
    return theatre.show
