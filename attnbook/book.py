"""The book as a whole: find it, read book.yml, build the site.

book.yml is the table of contents in the format of sphinx-external-toc, with the book's own settings under `meta`.
A mistake in it is a `BookError` of one line that names the file, the line and the entry.
"""

import hashlib
import re
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

CHAPTER = {"file": str, "title?": str}
PART = {"caption": str, "chapters": [CHAPTER]}
META = {"title": str, "description": str, "authors": [str], "repository": str, "branch": str}
SCHEMA = {"format": str, "root": str, "meta": META, "parts": [PART]}
SUFFIXES = (".ipynb", ".md")


class BookError(Exception):
    """What is wrong with the book, in one line."""


class BuildError(Exception):
    """The site could not be built; what is wrong has been printed. `_site` is as it was."""


@dataclass(frozen=True)
class Book:
    """What book.yml says. `pages` are file names without suffix, in reading order, the front page first."""

    root: Path
    title: str
    description: str
    authors: tuple[str, ...]
    repository: str
    branch: str
    pages: tuple[str, ...]

    def source(self, page: str) -> Path:
        """The notebook or Markdown file of a page."""
        return next(p for p in (self.root / "notebooks" / (page + suffix) for suffix in SUFFIXES) if p.exists())


def find_root(start: Path | None = None) -> Path:
    """The folder that holds book.yml: `start` or one above it, else the checkout this package is installed from.

    Raises BookError if there is none.
    """
    start = Path.cwd() if start is None else Path(start).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[1]):
        if (folder / "book.yml").is_file():
            return folder
    raise BookError(f"no book here: neither {start} nor a folder above it has a book.yml; run this inside the checkout")


def load(root: Path) -> Book:
    """Read and check `root`/book.yml. Raises BookError."""
    path = Path(root) / "book.yml"
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise BookError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BookError(f"{path}: not YAML: byte {error.start} is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        raise BookError(f"{path}:{error.problem_mark.line + 1}: not YAML: {error.problem}") from None
    except RecursionError:
        raise BookError(f"{path}: not a table of contents: nested too deeply") from None
    except yaml.YAMLError as error:
        raise BookError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        raise BookError(f"{path}: empty; it needs the keys {', '.join(SCHEMA)}")

    def fail(line: int, message: str):
        raise BookError(f"{path}:{line}: {message}")

    data = _check(tree, SCHEMA, "", fail)
    meta = data["meta"]
    if data["format"] != "jb-book":
        fail(data["format"].line, f"format must be jb-book, got {data['format']!r}")
    repository = meta["repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
        fail(repository.line, f"meta.repository must be https://github.com/OWNER/NAME, got {repository!r}")
    pages = [data["root"], *(chapter["file"] for part in data["parts"] for chapter in part["chapters"])]
    first = {}
    for page in pages:
        if page in first:
            fail(page.line, f"chapter {page!r} is listed twice (first on line {first[page]})")
        first[page] = page.line
        if not re.fullmatch(r"\w[\w.-]*", page):
            fail(page.line, f"chapter {page!r} must be the name of a file in notebooks/, without its suffix")
        if not any((path.parent / "notebooks" / (page + suffix)).is_file() for suffix in SUFFIXES):
            fail(page.line, f"chapter {page!r} has no file: notebooks/{page}.ipynb (or .md) does not exist")
    return Book(
        root=path.parent,
        title=str(meta["title"]),
        description=str(meta["description"]),
        authors=tuple(map(str, meta["authors"])),
        repository=str(repository),
        branch=str(meta["branch"]),
        pages=tuple(map(str, pages)),
    )


class _Text(str):
    """A string that knows its line in book.yml."""

    line: int


def _check(node: yaml.Node, schema, where: str, fail):
    """The plain value of a node that fits the schema: a dict, a list of one kind, or text. `key?` may be absent."""
    line = node.start_mark.line + 1
    if schema is str:
        if node.tag != "tag:yaml.org,2002:str" or not node.value.strip():
            fail(line, f"{where} must be text, got {_kind(node)}")
        text = _Text(node.value)
        text.line = line
        return text
    if isinstance(schema, list):
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            fail(line, f"{where} must be a list with at least one entry, got {_kind(node)}")
        return [_check(item, schema[0], f"{where}[{i}]", fail) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        fail(line, f"{where or 'the file'} must be a mapping with the keys {_keys(schema)}, got {_kind(node)}")
    found = {}
    for key, value in node.value:
        name = f"{where}.{key.value}".lstrip(".")
        kind = schema.get(key.value, schema.get(f"{key.value}?")) if isinstance(key, yaml.ScalarNode) else None
        if kind is None:
            fail(key.start_mark.line + 1, f"unknown key {name!r} (known here: {_keys(schema)})")
        if key.value in found:
            fail(key.start_mark.line + 1, f"key {name!r} is there twice")
        found[key.value] = _check(value, kind, name, fail)
    for key in schema:
        if key not in found and not key.endswith("?"):
            fail(line, f"{where + ' has' if where else 'there is'} no {key!r}")
    return found


def _keys(schema: dict) -> str:
    return ", ".join(key.rstrip("?") for key in schema)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value else "nothing"
    kind = "mapping" if isinstance(node, yaml.MappingNode) else "list"
    return f"a {kind}" if node.value else f"an empty {kind}"


def build(root: Path) -> Path:
    """Build the site of the book at `root` and return its folder, `root`/_site.

    Sphinx writes into a new folder in .site-build, which takes the place of _site, by rename, only when everything
    has succeeded; its parsed pages stay in .site-build, so that the next build reads only what has changed.
    Raises BookError (book.yml) or BuildError (anything else; Sphinx has printed its warnings, which are errors).
    """
    book = load(root)
    try:
        from filelock import FileLock
        from sphinx.cmd.build import build_main
    except ImportError:
        raise BookError("the site builder is not installed: run `make site`, or pip install -e '.[site]'") from None
    if not (book.root / "node_modules" / "katex").is_dir():
        raise BookError("the math fonts are not installed: run `make site`, or npm ci")
    with FileLock(book.root / ".site-build.lock"):  # a second build waits for the first
        return _build(book, build_main)


def _build(book: Book, build_main) -> Path:
    site, work = book.root / "_site", book.root / ".site-build"
    old, stamp = work / "replaced", work / "complete"
    if old.exists() and not site.exists():  # a build was killed between the two renames below
        old.rename(site)
    fingerprint = _fingerprint(book.root)
    # Pages parsed by a build that failed would not give their warnings again; those of another builder are stale.
    if not stamp.exists() or stamp.read_text() != fingerprint:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(exist_ok=True)
    stamp.unlink(missing_ok=True)
    for leftover in work.glob("html-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="html-", dir=work))
    new.chmod(0o755)
    sphinx = ["-q", "-W", "-c", book.root / "site", "-d", work / "doctrees", book.root / "notebooks", new]
    with _sigterm_raises():
        try:
            if code := build_main([str(option) for option in sphinx]):
                raise BuildError(f"the site was not built (sphinx-build ended with {code}); _site is as it was")
            shutil.rmtree(old, ignore_errors=True)
            if site.exists():
                site.rename(old)
            new.rename(site)
            stamp.write_text(fingerprint)
        finally:
            if old.exists() and not site.exists():
                old.rename(site)
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    return site


def _fingerprint(root: Path) -> str:
    """What the parsed pages depend on besides the notebooks: book.yml, this builder, its pins, this Python."""
    named = [root / name for name in ("book.yml", "constraints.txt", "package-lock.json")]
    digest = hashlib.sha256(sys.version.encode())
    for file in [Path(__file__), *named, *sorted((root / "site").rglob("*.py"))]:
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


@contextmanager
def _sigterm_raises():
    """SIGTERM unwinds the stack as Ctrl-C does, so that what is half built is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
