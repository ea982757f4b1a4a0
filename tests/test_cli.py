"""The command line: what a reader types and what comes back."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook

from attnbook import book, cli

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "attnbook.cli"]


@pytest.fixture
def root(tmp_path):
    """A folder that is a book with a site, as far as `lab` and `serve --no-build` look."""
    (tmp_path / "book.yml").write_text("")
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell("1 + 1")]), tmp_path / "notebooks" / "00-start-here.ipynb")
    (tmp_path / "_site").mkdir()
    (tmp_path / "_site" / "index.html").write_text("the book")
    (tmp_path / "_site" / "host.js").write_text("1")
    return tmp_path


def fetch(address):
    with urllib.request.urlopen(address, timeout=20) as response:
        return response.read().decode(), response.headers


def test_import_is_cheap():
    heavy = ["torch", "numpy", "sphinx", "matplotlib", "ipywidgets", "nbformat", "jupyterlab"]
    code = f"import sys, attnbook.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("arguments", [[], ["sit"], ["site", "--fast"], ["serve", "--port", "99999"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: attnbook" in capsys.readouterr().err


def test_outside_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(book, "__file__", str(tmp_path / "attnbook" / "book.py"))
    for command in ("lab", "site", "serve"):
        assert cli.main([command]) == 2
        assert "no book here" in capsys.readouterr().err


@pytest.mark.parametrize("user", [0, 1000])
def test_lab_command(root, monkeypatch, user):
    monkeypatch.chdir(root / "notebooks")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(cli, "_trust", lambda root: None)
    ran = []
    monkeypatch.setattr(os, "execv", lambda program, command: ran.append((program, command)))
    cli.main(["lab", "--no-browser", "--port=9999"])
    program, command = ran[0]
    assert program == sys.executable and command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={root}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks/00-start-here.ipynb" in command
    assert ("--allow-root" in command) == (user == 0)
    assert command[-2:] == ["--no-browser", "--port=9999"]


def test_lab_opens_the_first_chapter_and_trusts_the_notebooks(root, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    arguments = ["lab", "--no-browser", f"--port={port}", "--IdentityProvider.token=secret"]
    log = open(tmp_path / "log", "w+")
    lab = subprocess.Popen(COMMAND + arguments, cwd=root, env=os.environ | folders, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                page, _ = fetch(f"http://127.0.0.1:{port}/?token=secret")  # the bare address leads to the chapter
                break
            except urllib.error.URLError:
                assert lab.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)
        assert "JupyterLab" in page
        assert "/lab/tree/notebooks/00-start-here.ipynb" in (tmp_path / "log").read_text()
        listing, _ = fetch(f"http://127.0.0.1:{port}/api/contents/notebooks?token=secret")
        assert "00-start-here.ipynb" in listing
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(30)
        log.close()
    notebook = nbformat.read(root / "notebooks" / "00-start-here.ipynb", as_version=nbformat.NO_CONVERT)
    notary = NotebookNotary(data_dir=folders["JUPYTER_DATA_DIR"])
    assert notary.check_signature(notebook)
    notary.store.close()


def test_trust_survives_a_file_that_is_no_notebook(root, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    (root / "notebooks" / "bad.ipynb").write_text("{")
    cli._trust(root)
    assert "bad.ipynb could not be trusted" in capsys.readouterr().err


def test_serve(root):
    command = [*COMMAND, "serve", "--no-build", "--port", "0"]
    serving = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = serving.stdout.readline()
        address = line.split()[5]
        assert address.startswith("http://127.0.0.1:")
        assert fetch(address)[0] == "the book"
        assert fetch(address + "host.js")[1]["Content-Type"] == "text/javascript"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(address + "nowhere.html")
    finally:
        serving.send_signal(signal.SIGINT)
        out, err = serving.communicate(timeout=30)
    assert serving.returncode == 130
    assert "Traceback" not in err


def test_serve_takes_a_free_port_unless_told_one(root, monkeypatch, capsys):
    monkeypatch.setattr(cli.ThreadingHTTPServer, "serve_forever", lambda self: None)
    try:
        taken = cli.server(root / "_site", 8000)
    except OSError:  # by something else on this machine: as good
        taken = None
    cli.serve(root, build=False)
    address = capsys.readouterr().out.split()[5]
    assert address.startswith("http://127.0.0.1:") and ":8000/" not in address
    if taken:
        taken.server_close()
    with cli.server(root / "_site") as other:
        with pytest.raises(book.BookError, match=f"port {other.server_port} cannot be had"):
            cli.serve(root, other.server_port, build=False)


def test_serve_without_a_site(root, monkeypatch, capsys):
    (root / "_site" / "index.html").unlink()
    monkeypatch.chdir(root)
    assert cli.main(["serve", "--no-build"]) == 2
    assert "there is no site" in capsys.readouterr().err


def test_doctor_finds_all_here(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for row in ("Python", "book", "processor", "torch runs on", "Triton", "browser for tests", "jupyterlab"):
        assert f"\n{row} " in f"\n{said}"
    assert f"{cli._cores()} cores" in said and said.endswith("All that the book needs is here.\n")
    assert cli.doctor() is None  # nothing for a notebook to show below the table


def test_doctor_says_what_is_missing(monkeypatch, capsys):
    installed = metadata.version

    def version(name):
        if name in ("anywidget", "playwright"):
            raise metadata.PackageNotFoundError(name)
        return {"torch": "2.0.1+cpu", "numpy": "2.99.0"}.get(name) or installed(name)

    monkeypatch.setattr(cli.metadata, "version", version)
    monkeypatch.setattr(book, "find_root", lambda: ROOT)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "Missing: anywidget is not installed; `make lab` installs it" in said
    assert "Missing: torch is 2.0.1+cpu, the book needs ==2.13.0; `make lab` installs it" in said
    assert "playwright" in said and "Missing: playwright" not in said  # the tests need it, the book does not
    assert "numpy" in said and "2.99.0 (the book has " in said and "Missing: numpy" not in said
    assert "All that the book needs" not in said


def test_doctor_outside_a_checkout(monkeypatch, capsys):
    def find_root():
        raise book.BookError("no book here")

    monkeypatch.setattr(book, "find_root", find_root)
    monkeypatch.setattr(cli.shutil, "which", lambda name: None)
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "no checkout" in said and "none: `make test` installs chromium" in said
