"""The book's explorers: one Python class and one JavaScript module each, and a kit that the modules share.

The arithmetic that the reader watches runs in the module, in the lab and on the static page alike; each class
recomputes with attnbook.functional what it offers as a result. ipywidgets loads when the first explorer is named.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lookup import LookupExplorer
    from .qkv import QKVExplorer
    from .softmax import SoftmaxExplorer

_HOMES = {"SoftmaxExplorer": "softmax", "LookupExplorer": "lookup", "QKVExplorer": "qkv"}
__all__ = ["LookupExplorer", "QKVExplorer", "SoftmaxExplorer"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
