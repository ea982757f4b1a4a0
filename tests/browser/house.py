"""What the browser tests and the measurements share: a Chromium that resolves no name, the site served, a page watch."""

import gzip
import os
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from attnbook.cli import BROWSERS, server

ROOT = Path(__file__).resolve().parents[2]
NO_BROWSER = "NO BROWSER: set ATTNBOOK_CHROMIUM, or install one (Debian, Ubuntu: sudo apt-get install chromium)"


class NoBrowser(Exception):
    """There is no Chromium to be found."""


@contextmanager
def chromium():
    """Chromium, headless, resolving no name at all. Raises NoBrowser."""
    names = (os.environ.get("ATTNBOOK_CHROMIUM", ""), *BROWSERS)
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise NoBrowser(NO_BROWSER)
    quiet = ["quic", "component-update", "sync", "background-networking"]
    cut = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", cut, *(f"--disable-{name}" for name in quiet)],
        )
        yield browser
        browser.close()


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
