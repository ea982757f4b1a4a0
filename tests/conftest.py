"""What every test shares: fixed seeds, shape annotations that are checked, and the package without that check."""

import importlib.util
import random
import signal
import sys

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before anything imports them: from here on a call whose shapes do not fit its annotations raises TypeCheckError.
# The numeric tower lets `temperature: float` be an int, as it may be anywhere else in Python.
HOOKED = ["attnbook.functional", "attnbook.masks", "attnbook.positions", "attnbook.layers"]
assert not sys.modules.keys() & set(HOOKED), "a plugin imported attnbook before its annotations could be checked"
install_import_hook(HOOKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# Before anything imports Triton, as torch does in corners: its kernels are interpreted here, which it decides only once.
if importlib.util.find_spec("triton"):
    import triton_help  # noqa: F401

# A shell starts a background job deaf to Ctrl-C, and its children inherit that; the tests interrupt some of theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("book", derandomize=True, deadline=None, max_examples=60, database=None)
hypothesis.settings.load_profile("book")


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in a test whichever tests run before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _unhooked(name: str):
    """The module as readers import it: wrong input meets the package's own error, not the type checker's.

    A copy of the whole module and not `inspect.unwrap(function)`, whose calls to its neighbours stay checked.
    """
    spec = importlib.util.spec_from_file_location(name, importlib.util.find_spec(name).origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def plain_functional():
    return _unhooked("attnbook.functional")


@pytest.fixture(scope="session")
def plain_masks():
    return _unhooked("attnbook.masks")


@pytest.fixture(scope="session")
def plain_positions():
    return _unhooked("attnbook.positions")


@pytest.fixture(scope="session")
def plain_layers(plain_masks):
    module = _unhooked("attnbook.layers")
    module.to_sdpa = plain_masks.to_sdpa  # the one neighbour that is handed an argument unchecked
    return module
