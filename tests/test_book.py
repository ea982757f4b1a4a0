"""book.yml's mistakes, the builder's promises, and what the site changes in a notebook as it reads it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from attnbook import book

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "site"))

import notebook_source  # noqa: E402

BOOK = """\
format: jb-book
root: front
meta:
  title: A small book
  description: For the tests
  authors: [Ada, Grace]
  repository: https://github.com/ada/book
  branch: main
parts:
  - caption: Part
    chapters:
      - file: one
"""
SVG = """<?xml version="1.0"?><!DOCTYPE svg>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 100 50"
 width="100pt" height="50pt" role="img" aria-label="A #1a1c20 line"><metadata>who</metadata>
<defs><style type="text/css">*{stroke-linejoin: round; stroke-linecap: butt}</style><path id="tick" d="M0 0"/>
<clipPath id="area"><rect width="1"/></clipPath></defs>
<g id="figure_1" clip-path="url(#area)" style="fill: #fffffe; stroke: #1A1C20"><use xlink:href="#tick"/></g></svg>"""


OURS = "attnbook.widgets.softmax.SoftmaxExplorer"


def write_notebook(path: Path, *cells, widgets=None):
    notebook = new_notebook(cells=list(cells))
    if widgets:
        notebook.metadata["widgets"] = {notebook_source.WIDGET_STATE: {"version_major": 2, "state": widgets}}
    nbformat.write(notebook, path)


@pytest.fixture
def root(tmp_path):
    """A small book with this repository's builder, not built yet."""
    shutil.copytree(ROOT / "site", tmp_path / "site", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "references.bib").write_text("@misc{key, title={T}, author={Euler, L.}, year={1748}}")
    (tmp_path / "notebooks" / "front.md").write_text("# Front\n\n```{bibliography}\n```\n")
    one = "# One\n\nSee [@key] and [(1.1)](#eq-1.1).\n\n$$\ne^{i\\pi} = -1 \\tag{1.1}\n$$"
    write_notebook(tmp_path / "notebooks" / "one.ipynb", new_markdown_cell(one))
    (tmp_path / "book.yml").write_text(BOOK)
    return tmp_path


@pytest.fixture
def old_site(root):
    """A site from an earlier build, which a build that fails must leave as it is."""
    (root / "_site").mkdir()
    (root / "_site" / "index.html").write_text("the old site")
    return root / "_site"


def attnbook(root, *arguments):
    return subprocess.run([sys.executable, "-m", "attnbook.cli", *arguments], cwd=root, capture_output=True, text=True)


def untouched(site):
    return [path.read_text() for path in site.iterdir()] == ["the old site"]


MISTAKES = {
    "not yaml": ("parts:\n", "parts: [\n", ["book.yml:10", "not YAML"]),
    "a tab": ("  title:", "\ttitle:", ["book.yml:4", "not YAML"]),
    "a bell": ("Ada", "A\ada", ["book.yml", "not YAML"]),
    "nested without end": (BOOK, "[" * 3000, ["book.yml", "nested too deeply"]),
    "a list": (BOOK, "- one\n- two\n", ["book.yml:1", "must be a mapping"]),
    "empty": (BOOK, "# nothing\n", ["book.yml", "empty"]),
    "missing file": ("one", "two", ["book.yml:12", "'two'", "notebooks/two.ipynb"]),
    "missing front page": ("root: front", "root: back", ["book.yml:2", "'back'", "no file"]),
    "duplicate chapter": ("- file: one", "- file: one\n      - file: one", ["book.yml:13", "'one'", "line 12"]),
    "front page again": ("- file: one", "- file: front", ["book.yml:12", "'front'", "twice", "line 2"]),
    "outside notebooks": ("- file: one", "- file: ../one", ["book.yml:12", "'../one'", "name of a file"]),
    "unknown key": ("branch: main", "branch: main\n  brunch: late", ["book.yml:9", "'meta.brunch'", "branch"]),
    "unknown key at the top": ("parts:", "chapters: 3\nparts:", ["book.yml:9", "'chapters'"]),
    "unknown key of a chapter": ("- file: one", "- fil: one", ["book.yml:12", "'parts[0].chapters[0].fil'"]),
    "key twice": ("branch: main", "branch: main\n  branch: other", ["book.yml:9", "'meta.branch'", "twice"]),
    "authors not a list": ("[Ada, Grace]", "Ada", ["book.yml:6", "meta.authors", "list", "'Ada'"]),
    "no authors": ("[Ada, Grace]", "[]", ["book.yml:6", "meta.authors", "an empty list"]),
    "title a number": ("A small book", "12", ["book.yml:4", "meta.title", "text", "'12'"]),
    "title empty": ("A small book", "", ["book.yml:4", "meta.title", "nothing"]),
    "chapter not a mapping": ("- file: one", "- one", ["book.yml:12", "parts[0].chapters[0]", "mapping", "'one'"]),
    "no meta": (BOOK[BOOK.index("meta") : BOOK.index("parts")], "", ["book.yml:1", "'meta'"]),
    "no title": ("  title: A small book\n", "", ["book.yml:4", "meta has no 'title'"]),
    "another format": ("jb-book", "jb-article", ["book.yml:1", "format", "jb-book"]),
    "repository elsewhere": ("https://github.com/ada/book", "ada/book", ["book.yml:7", "meta.repository"]),
}


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_book_yml(root, old, new, said):
    assert old in BOOK
    (root / "book.yml").write_text(BOOK.replace(old, new, 1))
    with pytest.raises(book.BookError) as caught:
        book.load(root)
    message = str(caught.value)
    assert "\n" not in message
    for part in said:
        assert part in message


def test_a_folder_that_cannot_be_written_is_one_line_too(root, old_site):
    (root / ".site-build").write_text("in the way")
    done = attnbook(root, "site")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and ".site-build" in done.stderr
    assert untouched(old_site)


def test_two_builds_at_once_both_succeed(root):
    command = [sys.executable, "-m", "attnbook.cli", "site"]
    builds = [subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [build.wait() for build in builds] == [0, 0]
    assert (root / "_site" / "one.html").is_file()


def test_mistake_is_one_line_exit_code_2_and_leaves_the_site(root, old_site):
    (root / "book.yml").write_text(BOOK.replace("file: one", "file: two"))
    done = attnbook(root, "site")
    assert done.returncode == 2
    problem = "chapter 'two' has no file: notebooks/two.ipynb (or .md) does not exist"
    assert done.stderr == f"attnbook: {root / 'book.yml'}:12: {problem}\n"
    assert done.stdout == ""
    assert untouched(old_site)


def test_unreadable_book_yml(root):
    (root / "book.yml").write_bytes(b"title: \xff")
    with pytest.raises(book.BookError, match="book.yml: not YAML: byte 7 is not UTF-8"):
        book.load(root)
    (root / "book.yml").unlink()
    with pytest.raises(book.BookError, match="book.yml: cannot be read: No such file"):
        book.load(root)


def test_load(root):
    found = book.load(root)
    assert (found.title, found.authors, found.branch) == ("A small book", ("Ada", "Grace"), "main")
    assert found.pages == ("front", "one")
    assert found.source("one") == root / "notebooks" / "one.ipynb"


def test_find_root(root, tmp_path_factory, monkeypatch):
    assert book.find_root(root / "notebooks") == root
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert book.find_root(elsewhere) == ROOT  # the checkout that the package is installed from
    monkeypatch.setattr(book, "__file__", str(elsewhere / "attnbook" / "book.py"))
    with pytest.raises(book.BookError, match="no book here"):
        book.find_root(elsewhere)


def test_build_takes_the_place_of_the_old_site_and_rebuilds_what_changed(root, old_site):
    done = attnbook(root, "site")
    assert done.returncode == 0, done.stderr
    page = (old_site / "one.html").read_text()
    assert "(1.1)" in page and 'href="#eq-1-1"' in page and 'id="eq-1-1"' in page
    assert "Euler, 1748" in page
    assert (old_site / "index.html").read_text() == (old_site / "front.html").read_text()
    assert sorted(path.name for path in (root / ".site-build").iterdir()) == ["complete", "doctrees", "jupyter_execute"]
    shipped = [path.relative_to(old_site).as_posix() for path in old_site.rglob("*") if path.is_file()]
    assert not [path for path in shipped if "fontawesome" in path.lower() or path.endswith((".map", ".ttf", ".woff"))]

    doctree = root / ".site-build" / "doctrees" / "front.doctree"
    before = doctree.stat().st_mtime_ns
    write_notebook(root / "notebooks" / "one.ipynb", new_markdown_cell("# One changed"))
    done = attnbook(root, "site")
    assert done.returncode == 0, done.stderr
    assert doctree.stat().st_mtime_ns == before
    assert "One changed" in (old_site / "one.html").read_text()
    assert "One changed" in (old_site / "front.html").read_text()  # the contents at its side
    assert "Euler" not in (old_site / "front.html").read_text()  # nobody cites him now


def test_warning_is_an_error_each_time_it_is_built(root, old_site):
    write_notebook(root / "notebooks" / "one.ipynb", new_markdown_cell("# One\n\n[gone](missing.ipynb)"))
    for _ in range(2):  # the second time from the pages parsed the first time, if they were kept
        done = attnbook(root, "site")
        assert done.returncode == 1
        assert "one.ipynb" in done.stderr and "missing.ipynb" in done.stderr
        assert "_site is as it was" in done.stderr
        assert untouched(old_site)


def test_a_file_that_is_no_notebook(root, old_site):
    (root / "notebooks" / "one.ipynb").write_text("{")
    done = attnbook(root, "site")
    assert done.returncode == 1
    assert "one.ipynb: ERROR: not a notebook: " in done.stderr and "Traceback" not in done.stderr
    assert untouched(old_site)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_interrupted_build_leaves_the_old_site(root, old_site, signum):
    build = subprocess.Popen([sys.executable, "-m", "attnbook.cli", "site"], cwd=root, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while build.poll() is None and time.monotonic() < deadline and not list(root.glob(".site-build/html-*/_static/*")):
        time.sleep(0.01)
    build.send_signal(signum)
    assert build.wait(60) != 0
    assert untouched(old_site)
    if signum != signal.SIGKILL:
        assert not list(root.glob(".site-build/html-*"))


def test_site_lost_between_the_two_renames_comes_back(root, old_site):
    (root / ".site-build").mkdir()
    old_site.rename(root / ".site-build" / "replaced")
    (root / "notebooks" / "one.ipynb").write_text("{")
    assert attnbook(root, "site").returncode != 0
    assert untouched(old_site)


# What the site changes in a notebook


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("see [@vaswani2017].", "see {cite:p}`vaswani2017`."),
        ("[@a; @b-c:d.e ;@f]", "{cite:p}`a,b-c:d.e,f`"),
        ("[@a](https://x) `[@a]` ``x ` [@a]``", None),
        ("$x[@a]$ and [@b]", "$x[@a]$ and {cite:p}`b`"),
        ("costs $5, [@a] and $6", None),
        ("costs \\$5, [@a] and \\$6", "costs \\$5, {cite:p}`a` and \\$6"),
        ("costs $5\n\n[@a] and $6", "costs $5\n\n{cite:p}`a` and $6"),
        ("```python\n[@a]\n```\n[@b]", "```python\n[@a]\n```\n{cite:p}`b`"),
        ("~~~\n[@a]", None),
        ("me@a.org [a@b]", None),
        ("a\n$$\nx \\tag{3.1}\n$$\nb", "a\n\n(eq-3.1)=\n$$\nx \\tag{3.1}\n$$\nb"),
        ("- a\n  $$x \\tag{3.2a}$$", "- a\n\n  (eq-3.2a)=\n  $$x \\tag{3.2a}$$"),
        ("$$\nx [@a]\n$$", None),
        ("```\n$$\nx \\tag{1}\n$$\n```", None),
        ("so $x$, and $y$ too ($z$).", 'so <span class="tied">$x$,</span> and $y$ too (<span class="tied">$z$).</span>'),
        ("[(3.1)](03-x.ipynb#eq-3.1) [(3.1)](#eq-3.1)", "[(3.1)](#eq-3.1) [(3.1)](#eq-3.1)"),
    ],
)
def test_markdown(before, after):
    assert notebook_source.markdown(before) == (before if after is None else after)


def test_figure():
    html = notebook_source.figure(SVG, "fig3-0", "the alt text")
    assert html.startswith('<figure class="plot"><svg xmlns="http://www.w3.org/2000/svg"')
    assert html.endswith("</svg></figure>")
    assert "metadata" not in html and "<style" not in html and "DOCTYPE" not in html
    assert 'id="fig3-0-tick"' in html and 'href="#fig3-0-tick"' in html and "url(#fig3-0-area)" in html
    assert "fill: var(--plot-paper, none); stroke: currentColor" in html
    assert 'style="stroke-linejoin: round; stroke-linecap: butt; width: 100pt"' in html
    assert 'role="img"' in html and 'aria-label="A #1a1c20 line"' in html
    unlabelled = SVG.replace("aria-label", "data-x")
    assert 'aria-label="the alt text"' in notebook_source.figure(unlabelled, "f", "the alt text")


def test_rewrite():
    view = {"model_id": "m1", "version_major": 2, "version_minor": 0}
    plain = {"model_id": "m2"}
    states = {
        "m1": {"state": {"_anywidget_id": OURS, "_esm": "x", "_css": "y", "n": 3}},
        "m2": {"state": {"value": 1}},
        "m3": {"state": {"_anywidget_id": "attnbook.widgets.a<b.C"}},
    }
    outputs = [
        new_output("display_data", {notebook_source.WIDGET_VIEW: view, "text/plain": "SoftmaxExplorer()"}),
        new_output("display_data", {notebook_source.WIDGET_VIEW: plain, "text/plain": "IntSlider()"}),
        new_output("display_data", {notebook_source.WIDGET_VIEW: {"model_id": "m3"}}),
        new_output("display_data", {notebook_source.WIDGET_VIEW: {"model_id": "gone"}}),
        new_output("display_data", {"image/svg+xml": SVG.splitlines(keepends=True), "text/plain": "alt"}),
        new_output("stream", name="stdout", text="printed"),
    ]
    cell = new_code_cell("1", outputs=outputs)
    solution = new_code_cell("2", metadata={"tags": ["solution", "hide-cell"]})
    notebook = json.loads(json.dumps(new_notebook(cells=[new_markdown_cell("[@a]"), cell, solution])))
    notebook["metadata"]["widgets"] = {notebook_source.WIDGET_STATE: {"state": states}}
    notebook = notebook_source.rewrite(notebook, "01-softmax", "https://github.com/ada/book", "main")

    assert notebook["cells"][0]["source"] == "{cite:p}`a`"
    assert states["m1"]["state"] == {"_anywidget_id": OURS, "n": 3}
    html = [output.get("data", {}).get("text/html", "") for output in notebook["cells"][1]["outputs"]]
    assert html[0].startswith('<div class="explorer" data-widget="softmax"><script') and "<noscript>" in html[0]
    for other in html[1:4]:
        assert "needs a running Python kernel" in other and "script" not in other
        assert "https://colab.research.google.com/github/ada/book/blob/main/notebooks/01-softmax.ipynb" in other
        assert "https://mybinder.org/v2/gh/ada/book/main?urlpath=lab/tree/notebooks/01-softmax.ipynb" in other
    assert html[4].startswith('<figure class="plot">') and "fig1-4-tick" in html[4]
    assert html[5] == ""
    assert not any(notebook_source.WIDGET_VIEW in output.get("data", {}) for output in notebook["cells"][1]["outputs"])
    assert notebook["cells"][2]["metadata"]["mystnb"]["code_prompt_show"] == "Show a solution"


@pytest.mark.parametrize(
    ("module", "state", "hint"),
    [
        ("softmax", {}, ""),
        ("quiz", {"questions": [{}, {}, {}]}, ' style="--questions: 3"'),
        ("multihead", {"x": None}, ""),
        ("multihead", {"x": [[1.0]]}, ' data-given=""'),
        ("alignment", {"image": None}, ""),
        ("alignment", {"image": {"data": ""}}, ' data-given=""'),
    ],
)
def test_height_hint(module, state, hint):
    assert notebook_source.height_hint(module, state) == hint
