"""The `attnbook` command: lab, site, serve, check, progress, bench, doctor."""

import argparse
import os
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata, util
from pathlib import Path

from attnbook import book

FRONT = "/lab/tree/notebooks/00-start-here.ipynb"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for a mistake in book.yml or in the arguments, 1 for a failure."""
    parser = argparse.ArgumentParser(prog="attnbook", description="The interactive textbook on attention.")
    names = "lab | site | serve | check | progress | bench | doctor"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    commands.add_parser("lab", help="open the book in JupyterLab; further arguments go to JupyterLab")
    commands.add_parser("site", help="build the static site into _site/")
    serving = commands.add_parser("serve", help="build the site, serve it and print its address")
    serving.add_argument("--port", type=_port, help="default: 8000, or a free one if that is taken")
    serving.add_argument("--no-build", action="store_true", help="serve _site/ as it is")
    checking = commands.add_parser("check", help="run notebooks and say which exercises pass, and what the others show")
    checking.add_argument("notebooks", nargs="+", metavar="NN|notebook", help="a chapter of this checkout, or a file")
    checking.add_argument("--format", choices=["table", "json", "csv"], default="table")
    checking.add_argument("-o", "--output", type=Path, help="write to this file")
    commands.add_parser("progress", help="say which exercises are done")
    benching = commands.add_parser("bench", help="measure what the chapters on efficient attention claim")
    what = "what to measure; without any, all that needs no GPU; `gpu` and parts of it: the kernels on a GPU"
    benching.add_argument("parts", nargs="*", metavar="part", help=what)
    benching.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/efficient.json, or <gpu>.json")
    commands.add_parser("doctor", help="say what this machine has and what the book misses")
    args, rest = parser.parse_known_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a console or a pipe that does not know ✓
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if rest and args.command != "lab":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        match args.command:
            case "lab":
                return lab(book.find_root(), rest)
            case "site":
                print(f"attnbook: built {book.build(book.find_root())}")
            case "serve":
                serve(book.find_root(), args.port, build=not args.no_build)
            case "check":
                return check(args.notebooks, args.format, args.output)
            case "progress":
                from attnbook.exercises import progress

                print(progress())
            case "bench":
                return bench(args.parts, args.output)
            case "doctor":
                return 1 if _doctor() else 0
    except book.BookError as error:
        print(f"attnbook: {error}", file=sys.stderr)
        return 2
    except (book.BuildError, OSError) as error:
        print(f"attnbook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def lab(root: Path, arguments: list[str]) -> int:
    """Open JupyterLab on the book's front page; the file browser shows `root`."""
    _trust(root)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.default_url={FRONT}"]
    # The book asks nothing of the network: no news, no look for updates (and no question about them).
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    command += arguments
    if os.name == "nt":
        return subprocess.call(command)
    os.execv(sys.executable, command)


def _trust(root: Path) -> None:
    """Sign the book's notebooks, so that the lab shows their stored explorers before a cell is run."""
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        try:
            notary.sign(nbformat.read(path, as_version=nbformat.NO_CONVERT))
        except Exception as error:
            print(f"attnbook: {path.name} could not be trusted: {error}", file=sys.stderr)


class _Pages(SimpleHTTPRequestHandler):
    # Windows may have other ideas about .js, and a browser refuses a module that is not JavaScript.
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript", ".woff2": "font/woff2"}

    def log_request(self, code="-", size="-"):
        pass

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def server(site: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the folder `site` on this machine only; port 0 takes a free one. Raises OSError if it is taken."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Pages, directory=str(site)))


def serve(root: Path, port: int | None = None, build: bool = True) -> None:
    """Build the site, serve it until Ctrl-C, and print its address."""
    site = book.build(root) if build else root / "_site"
    if not (site / "index.html").is_file():
        raise book.BookError(f"there is no site in {site}; `attnbook site` builds it")
    try:
        http = server(site, 8000 if port is None else port)
    except OSError as error:
        if port is not None:
            raise book.BookError(f"port {port} cannot be had: {error.strerror}") from None
        http = server(site)
    with http:
        print(f"attnbook: the book is at http://127.0.0.1:{http.server_port}/ (Ctrl-C stops)", flush=True)
        http.serve_forever()


def check(names: list[str], form: str = "table", output: Path | None = None) -> int:
    """Run notebooks and print what each exercise answers; 0 if all pass, 2 if one is no notebook, else 1."""
    from attnbook.exercises import grade

    if output and not (output.absolute().parent.is_dir() and not output.is_dir()):
        raise book.BookError(f"{output} cannot be written: it must be a file in a folder that exists")
    rows, unread = [], 0
    paths = [_notebook(name) for name in names]
    for name, path in zip(names, paths):
        alike = sum(other.name == path.name for other in paths) > 1  # of each student's folder the same file
        try:
            rows += [row | {"notebook": name} if alike else row for row in grade.grade(path)]
        except (ValueError, OSError) as error:  # one that cannot be read does not take the others' results away
            print(f"attnbook: {error}", file=sys.stderr)
            unread += 1
    if rows:
        text = grade.written(rows, form)
        if output:
            output.write_text(text, encoding="utf-8")
        else:
            print(text, end="")
    if unread:
        return 2
    return 0 if all(row["result"] == "passed" for row in rows) else 1


def _notebook(name: str) -> Path:
    if Path(name).is_file():
        return Path(name).resolve()
    if name.isdigit():
        found = sorted((book.find_root() / "notebooks").glob(f"{int(name):02}-*.ipynb"))
        if found:
            return found[0]
    raise book.BookError(f"there is no notebook {name!r}: neither a file nor the number of a chapter")


def bench(parts: list[str], output: Path | None = None) -> int:
    """Measure these parts, print a table of each, and keep every point in `output` as soon as it is measured.

    After "gpu" come parts of `gpu_measurements`; 1 if there is no GPU to measure, or the kernels are wrong on it.
    """
    from tqdm import tqdm

    from attnbook.bench import read_results
    from attnbook.efficient import gpu_measurements, measurements

    group, name = measurements, "efficient.json"
    if parts[:1] == ["gpu"]:
        if missing := gpu_measurements.missing():
            print(f"attnbook: `attnbook bench gpu` cannot measure: {missing}", file=sys.stderr)
            return 1
        group, name, parts = gpu_measurements, gpu_measurements.file_name(), parts[1:]
    if unknown := [part for part in parts if part not in group.PARTS]:
        raise book.BookError(f"there is no part {unknown[0]!r} to measure; there is {', '.join(group.PARTS)}"
                             + (", and gpu" if group is measurements else ""))  # fmt: skip
    if output is None:
        output = book.find_root() / "benchmarks/results" / name
    if not output.absolute().parent.is_dir() or output.is_dir():
        raise book.BookError(f"{output} cannot be written: it must be a file in a folder that exists")
    try:
        read_results(output)
    except ValueError as error:
        raise book.BookError(error) from None

    def bar(points, name):
        return tqdm(points, desc=name, unit="point", leave=False, disable=None)  # on a terminal

    try:
        for part, figures in group.measure(parts or list(group.PARTS), output, bar):
            print(f"{part}\n{measurements.table(figures)}", flush=True)
    except KeyboardInterrupt:
        print(f"\nattnbook: stopped; {output} has what was measured, the same command goes on", file=sys.stderr)
        raise
    except gpu_measurements.WrongKernels as error:
        print(f"attnbook: {error}", file=sys.stderr)
        return 1
    print(f"attnbook: written to {output}")
    return 0


def doctor() -> None:
    """Print what this machine has, beside what the book pins, and what the book misses."""
    _doctor()


def _doctor() -> list[str]:
    """`doctor`, and a sentence for each thing that the book needs and does not find."""
    import platform

    try:
        root = book.find_root()
    except book.BookError:
        root = None
    packages, missing = _packages(root)
    memory, device = _memory(), _device()
    browser = next(filter(None, map(shutil.which, (os.environ.get("ATTNBOOK_CHROMIUM", ""), *BROWSERS))), None)
    if sys.version_info < (3, 11):
        missing.insert(0, "Python 3.11 or newer is needed")
    rows = [
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("book", "a checkout" if root else "no checkout: `git clone` the repository for the notebooks and the site"),
        ("processor", f"{_cores()} cores" + (f", {memory:.0f} GiB of memory" if memory else "")),
        ("torch runs on", device),
        ("Triton", "present" if util.find_spec("triton") else "absent (only the GPU kernels need it)"),
        ("browser for tests", browser or "none: `make test` installs chromium where it can"),
        *packages,
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for problem in missing:
        print(f"Missing: {problem}")
    if not missing:
        print("All that the book needs is here.")
    return missing


def _packages(root: Path | None) -> tuple[list[tuple[str, str]], list[str]]:
    """A row for each package that attnbook names, and a sentence for each that it cannot do without."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {}
    if root and (root / "constraints.txt").is_file():
        lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pins = {canonicalize_name(name): pin for name, equal, pin in (line.partition("==") for line in lines) if equal}
    rows, missing, tools = [], [], 0
    for requirement in map(Requirement, metadata.requires("attnbook") or []):
        name, extra = requirement.name, next((e for e in ("site", "test") if _is_extra(requirement, e)), None)
        pin = pins.get(canonicalize_name(name))
        pinned = f"the book has {pin or requirement.specifier}"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            rows.append((name, f"absent ({pinned}" + (f"; `make {extra}` installs it)" if extra else ")")))
            if not extra:
                missing.append(f"{name} is not installed; `make lab` installs it")
            continue
        same = pin is None or version.split("+")[0] == pin
        if not requirement.specifier.contains(version, prereleases=True):
            rows.append((name, f"{version} ({pinned})"))
            missing.append(f"{name} is {version}, the book needs {requirement.specifier}; `make lab` installs it")
        elif extra and same:
            tools += 1
        else:
            rows.append((name, version if same else f"{version} ({pinned})"))
    if tools:
        rows.append(("site and tests", f"{tools} more packages, as pinned"))
    return rows, missing


def _is_extra(requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": extra})


def _device() -> str:
    try:
        import torch
    except Exception as error:
        return f"nothing: {type(error).__name__}: {error}"
    found = ["CPU"]
    if torch.cuda.is_available():
        found += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("Apple GPU (MPS)")
    return ", ".join(found)


def _cores() -> int:
    """The cores this process may use, which a container can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> float | None:
    """GiB of memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None


if __name__ == "__main__":
    sys.exit(main())
