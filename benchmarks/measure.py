"""Measure the book itself and keep the figures in benchmarks/results/book.json, with where they come from.

    python benchmarks/measure.py [clone] [notebooks] [site] [pages] [frames]      (without names: all of them)

clone      a clean clone with warm package caches: seconds until the lab answers, and `make test` in all
notebooks  seconds that each notebook takes to run
site       seconds for a build from nothing, and again after one chapter has changed
pages      for each page: compressed weight, and time until its first slider is live
frames     for each explorer: milliseconds from a slider's event to the redrawn layout and to the next painted frame
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import date
from pathlib import Path

from attnbook import book

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/book.json"
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests/browser")]


def clone() -> dict:
    """A stranger's first minutes: clone, set up, lab answering; then the whole of `make test`."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "attnbook"
        start = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
        run(["make", ".venv/.lab"], checkout)
        lab = subprocess.Popen(
            [checkout / ".venv/bin/attnbook", "lab", "--no-browser", "--port=8877", "--ServerApp.token="],
            cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            wait_for("http://127.0.0.1:8877/lab")
            ready = time.perf_counter() - start
        finally:
            lab.terminate()
            lab.wait()
        return {
            "clean clone to lab ready, s": round(ready, 1),
            "make test on a clean clone, s": seconds(["make", "test"], checkout),
            "set-up before a second make test, s": seconds(["make", ".venv/.test"], checkout),
        }


def notebooks() -> dict:
    from run_notebooks import run as run_notebook

    with tempfile.TemporaryDirectory() as folder:
        copies = [shutil.copy(path, folder) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
        return {f"{Path(copy).stem}, s": round(run_notebook(Path(copy)), 1) for copy in copies}


def site() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "attnbook"
        skip = shutil.ignore_patterns(".venv", ".git", "_site", ".site-build", "node_modules")
        shutil.copytree(ROOT, checkout, ignore=skip)
        (checkout / "node_modules").symlink_to(ROOT / "node_modules")
        build = [sys.executable, "-m", "attnbook.cli", "site"]
        cold = seconds(build, checkout)
        chapter = checkout / "notebooks/01-softmax.ipynb"
        chapter.write_text(chapter.read_text().replace("# 1 · Softmax", "# 1 · Softmax, again"))
        return {"cold build, s": cold, "one chapter changed, s": seconds(build, checkout)}


def pages() -> dict:
    """Each page in a fresh browser: what it transfers (as gzip would send it) and when its first slider is there."""
    from house import chromium, serving, watch, weight

    observe = """new MutationObserver((_, observer) => {
        if (!document.querySelector('.attnbook input[type=range]')) return;
        window.firstSlider = performance.now(); observer.disconnect();
    }).observe(document, {childList: true, subtree: true});"""
    figures = {}
    with serving(ROOT / "_site") as address, chromium() as browser:
        for name in book.load(ROOT).pages:
            page = watch(browser.new_context().new_page(), address)
            page.add_init_script(observe)
            page.goto(f"{address}{name}.html", wait_until="networkidle")
            slider = page.evaluate("window.firstSlider")
            figures[name] = {
                "compressed, KB": round(weight(page) / 1000),
                "requests": len(page.responses),
                "first live slider, ms": slider and round(slider),
            }
            page.context.close()
    return figures


def frames() -> dict:
    """The explorers' own measurements, from the tests that hold them to 16 ms."""
    import stage
    import test_explorers
    import test_qkv
    from house import chromium

    figures = {}
    with chromium() as browser:
        with stage.theatre(browser) as theatre:
            for explorer in test_explorers.EXPLORERS:
                with theatre.show(explorer()) as on:
                    times = stage.frame_times(on)
                    figures[times.pop("explorer")] = times
        for n, d_k in ((6, 2), (64, 2), (64, 64)):
            figures |= test_qkv.frame_times(browser, n=n, d_k=d_k)
    return figures


def seconds(command, where) -> float:
    start = time.perf_counter()
    run(command, where)
    return round(time.perf_counter() - start, 1)


def run(command, where):
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed in {where}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def wait_for(address: str, limit: float = 120):
    start = time.perf_counter()
    while time.perf_counter() - start < limit:
        try:
            if urllib.request.urlopen(address, timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{address} did not answer within {limit} s")


def provenance() -> dict:
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = re.search(r"model name\s*: (.*)", cpuinfo)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    packages = ("jupyterlab", "numpy", "torch", "matplotlib", "anywidget", "sphinx", "myst-nb", "nbval", "playwright")
    return {
        "date": date.today().isoformat(),
        "commit": head.stdout.strip(),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


if __name__ == "__main__":
    parts = {part.__name__: part for part in (clone, notebooks, site, pages, frames)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="what to measure; all of it if not given")
    for name in parser.parse_args().part or parts:
        source = provenance()  # as it is now: the tree may move on while the clone is tested
        figures = parts[name]()
        print(f"{name}: {json.dumps(figures, indent=2, ensure_ascii=False)}", flush=True)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = {"figures": figures, "provenance": source}
        RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
