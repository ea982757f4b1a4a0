"""The explorers in JupyterLab: live before a cell is run, by keyboard, and in step with their Python objects."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest
from house import ROOT
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect
from quizzes import answer_by_keyboard

EXPLORER = "from attnbook.widgets import QKVExplorer\nexplorer = QKVExplorer()\nexplorer"
READ = "import json\nprint(json.dumps([explorer.q.tolist(), explorer.out.tolist()]))"
SET = "explorer.temperature = 0.25"
QUIZ = "from attnbook.widgets.quiz import Number, Quiz\nquiz = Quiz(Number('√64?', 8, wrong={64: 'no'}))\nquiz"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """`attnbook lab` on a copy of the book (the lab saves what it opens), and its address."""
    root = tmp_path_factory.mktemp("book")
    (root / "book.yml").write_text((ROOT / "book.yml").read_text())
    (root / "notebooks").mkdir()
    for name in ("00-start-here", "03-scaled-dot-product"):
        (root / f"notebooks/{name}.ipynb").write_bytes((ROOT / f"notebooks/{name}.ipynb").read_bytes())
    cells = [new_code_cell(source) for source in (READ, SET, EXPLORER)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), root / "notebooks/small.ipynb")
    told = "print(quiz.answers, quiz.correct, quiz.tries)"
    cells = [new_code_cell(source) for source in (told, "quiz.reset()", QUIZ)]
    nbformat.write(new_notebook(cells=cells, metadata=kernel), root / "notebooks/quiz.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--ServerApp.token=", "--ServerApp.password="]
    log = (root / "lab.log").open("w")
    # Its own workspaces and settings: the lab would reopen what the last reader on this machine had open.
    own = {f"JUPYTERLAB_{name}_DIR": str(root / name) for name in ("WORKSPACES", "SETTINGS")}
    command = [sys.executable, "-m", "attnbook.cli", "lab", *options]
    process = subprocess.Popen(command, cwd=root, env=os.environ | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab/workspaces"
    try:
        wait_for(f"http://127.0.0.1:{port}/api", process, root / "lab.log")
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_for(address, process, log, limit=90):
    start = time.monotonic()
    while time.monotonic() - start < limit and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the lab did not answer:\n{log.read_text()[-3000:]}")


@pytest.fixture
def page(browser):
    page = browser.new_context(viewport={"width": 1300, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    yield page
    page.context.close()


def state(page):
    return page.locator(".attnbook").evaluate("e => (e.explorer.flush?.(), e.explorer.state())")


def test_the_first_explorer_is_live_before_a_cell_is_run(lab, page):
    page.goto(f"{lab}/first/tree/notebooks/00-start-here.ipynb")
    slider = page.locator(".attnbook input[type=range]").nth(1)
    slider.wait_for()
    before = slider.get_attribute("aria-valuetext")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") != before


def test_a_slider_moves_the_python_object_and_python_moves_the_slider(lab, page):
    page.goto(f"{lab}/second/tree/notebooks/small.ipynb")
    page.get_by_text("| Idle").wait_for()
    run(page, 2)
    slider = page.locator(".attnbook").get_by_role("slider", name="q₁")
    slider.wait_for()
    before = state(page)["q"]
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    moved = state(page)
    assert moved["q"] != before

    run(page, 0)
    printed = page.locator(".jp-CodeCell").nth(0).locator(".jp-OutputArea-output pre")
    printed.wait_for()
    q, out = json.loads(printed.inner_text())
    np.testing.assert_allclose(q, moved["q"])
    np.testing.assert_allclose(out, moved["out"], atol=1e-9)

    run(page, 1)
    temperature = page.locator(".attnbook").get_by_role("slider", name="temperature T")
    expect(temperature).to_have_attribute("aria-valuetext", re.compile("^0.25"))
    assert state(page)["temperature"] == 0.25


def test_python_reads_the_answers_of_a_quiz_and_resets_it(lab, page):
    page.goto(f"{lab}/third/tree/notebooks/quiz.ipynb")
    page.get_by_text("| Idle").wait_for()
    run(page, 2)
    quiz = page.locator(".attnbook")
    quiz.wait_for()
    answer_by_keyboard(quiz)
    run(page, 0)
    printed = page.locator(".jp-CodeCell").nth(0).locator(".jp-OutputArea-output pre")
    expect(printed).to_have_text("(8.0,) (True,) (2,)")
    run(page, 1)
    expect(quiz.get_by_text("0 of 1 right")).to_be_visible()
    assert state(page)["correct"] == [None]


def run(page, number):
    """Run one cell of the small notebook, whose first cells stand above the explorer."""
    page.locator(".jp-WindowedPanel-outer").evaluate("e => (e.scrollTop = 0)")
    page.locator(".jp-CodeCell").nth(number).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
