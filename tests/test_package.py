"""The package as a whole: cheap to import, complete, small."""

import json
import subprocess
import sys
from pathlib import Path

import attnbook
import pytest

PACKAGE = Path(attnbook.__file__).parent
HEAVY = {"torch", "matplotlib", "ipywidgets", "anywidget", "IPython", "sphinx", "hypothesis", "beartype"}


def after(code: str) -> tuple[set[str], float]:
    """The top-level modules that `code` loads in a new interpreter, and how many seconds of the processor it took."""
    probe = f"import time; start = time.process_time()\n{code}\nseconds = time.process_time() - start\n" + (
        "import json, sys; print(json.dumps([sorted({m.split('.')[0] for m in sys.modules}), seconds]))"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, cwd=PACKAGE.parent)
    assert run.returncode == 0, run.stderr
    modules, seconds = json.loads(run.stdout.splitlines()[-1])
    return set(modules), seconds


def test_importing_the_package_loads_nothing_heavy():
    modules, seconds = after("import attnbook")
    assert modules & (HEAVY | {"numpy"}) == set()
    assert seconds < 0.2


@pytest.mark.parametrize("module", ["functional", "masks", "positions"])
def test_the_functions_do_not_load_torch(module):
    modules, seconds = after(f"import attnbook.{module}")
    assert modules & HEAVY == set()
    assert seconds < 2


def test_numpy_chapters_never_load_torch():
    code = "import numpy as np, attnbook; x = np.ones((2, 3)); attnbook.attention(x, x, x, attnbook.causal(2))"
    assert "torch" not in after(code)[0]


@pytest.mark.parametrize("module", ["cli", "book"])
def test_the_command_starts_without_what_it_may_not_need(module):
    assert after(f"import attnbook.{module}")[0] & {"torch", "matplotlib", "sphinx"} == set()


def test_every_name_resolves():
    for name in attnbook.__all__:
        assert getattr(attnbook, name) is not None
    assert set(dir(attnbook)) == set(attnbook.__all__)
    assert attnbook.attention.__module__ == "attnbook.functional"
    # Every module of the package can be reached from it.
    modules = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert modules - {"__init__"} <= set(attnbook.__all__)


def test_star_import_in_a_new_interpreter():
    after("from attnbook import *; assert attention and softmax and causal and widgets and __version__")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"'attnbook' has no attribute 'atention'; it has .*attention"):
        attnbook.atention
    with pytest.raises(ImportError, match="atention"):
        from attnbook import atention  # noqa: F401


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert attnbook.__version__ == version("attnbook")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_can_be_read_in_one_sitting(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 450
    assert max(map(len, lines), default=0) <= 120
