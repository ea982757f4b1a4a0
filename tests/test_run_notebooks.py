"""The tool that stores outputs: the same text at every run, no widget that nobody sees, no stream cut by chance."""

import json
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import run_notebooks  # noqa: E402

WIDGET = """from attnbook.widgets import SoftmaxExplorer
hidden = SoftmaxExplorer([1.0, 2.0])
SoftmaxExplorer([3.0, 4.0])"""


def test_two_runs_store_the_same_text_and_only_the_widget_that_is_shown(tmp_path):
    path = tmp_path / "small.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('a')\nprint('b')"), new_code_cell(WIDGET)]), path)
    run_notebooks.run(path)
    first = path.read_text()
    run_notebooks.run(path)
    assert path.read_text() == first
    states = json.loads(first)["metadata"]["widgets"][run_notebooks.STATE]["state"]
    explorers = [model["state"]["logits"] for model in states.values() if "logits" in model["state"]]
    assert explorers == [[3.0, 4.0]]
    assert all(model_id.startswith("widget-") for model_id in states)


def test_pieces_of_one_stream_are_joined():
    pieces = [("stdout", "b"), ("stdout", "c"), ("stderr", "d"), ("stdout", "e")]
    outputs = [new_output("stream", name=name, text=text) for name, text in pieces]
    joined = run_notebooks.join_streams(outputs)
    assert [(output.name, output.text) for output in joined] == [("stdout", "bc"), ("stderr", "d"), ("stdout", "e")]
