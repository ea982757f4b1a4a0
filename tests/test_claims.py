"""What a chapter claims of a training holds for other seeds than the one that the reader sees.

The cells tagged `claim`, run alone in their order, define `claim(seed)`, which trains and asserts.
"""

import json
from functools import cache
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def claim_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if "claim" in cell["metadata"].get("tags", [])]


def trains(path: Path) -> bool:
    return any("from attnbook.train import" in "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


CHAPTERS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if trains(path)]


@cache
def claim_of(path: Path):
    names = {"__name__": path.stem}
    exec("\n\n".join(claim_cells(path)), names)
    return names["claim"]


def test_some_chapters_train():
    assert {"05-multi-head", "07-cross-attention"} <= {path.stem for path in CHAPTERS}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_claim_holds_for_another_seed(path, seed):
    claim_of(path)(seed)
