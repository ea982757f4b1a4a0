"""Run the book's notebooks and store their outputs: what nbval compares and the site shows.

    python tools/run_notebooks.py [notebooks/01-softmax.ipynb …]     (without names: all of them)
"""

import json
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

STATE = "application/vnd.jupyter.widget-state+json"
ROOT = Path(__file__).resolve().parent.parent


def run(path: Path) -> float:
    """Run one notebook in place; return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    start = time.perf_counter()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.perf_counter() - start
    text = tidy(notebook)
    nbformat.validate(nbformat.reads(text, as_version=4))
    path.write_text(text)
    return seconds


def tidy(notebook) -> str:
    """The notebook as text without what differs from run to run: widget ids, timestamps, streams cut by chance."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = join_streams(cell.outputs)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
        **({"widgets": notebook.metadata.widgets} if "widgets" in notebook.metadata else {}),
    }
    models = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    outputs = json.dumps([cell.get("outputs") for cell in notebook.cells])
    keep_shown(models, outputs)
    text = json.dumps(notebook)
    for number, model_id in enumerate(models):  # in the order in which the kernel made them
        text = text.replace(model_id, f"widget-{number:03d}")
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def keep_shown(models: dict, outputs: str):
    """Forget the widgets that no output shows, directly or as a part of one that is shown."""
    shown = {model_id for model_id in models if model_id in outputs}
    grown = True
    while grown:
        parts = json.dumps([models[model_id] for model_id in shown])
        more = {model_id for model_id in models if model_id in parts} - shown
        grown = bool(more)
        shown |= more
    for model_id in set(models) - shown:
        del models[model_id]


def join_streams(outputs: list) -> list:
    """Consecutive pieces of one stream become one output: where the kernel cut them is chance."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last and last.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb")):
        print(f"{path.name}: {run(path):.1f} s", flush=True)
