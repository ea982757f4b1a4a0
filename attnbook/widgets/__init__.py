"""The book's explorers: one Python class and one JavaScript module each, and a kit that the modules share.

The arithmetic that the reader watches runs in the module, in the lab and on the static page alike; each class
recomputes with attnbook.functional what it offers as a result. ipywidgets loads when the first explorer is named.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .alignment import AlignmentExplorer
    from .costs import CostExplorer
    from .lookup import LookupExplorer
    from .maskeditor import MaskExplorer
    from .multihead import MultiHeadExplorer
    from .patterns import PatternExplorer
    from .position import PositionExplorer
    from .qkv import QKVExplorer
    from .quiz import Quiz
    from .softmax import SoftmaxExplorer
    from .states import StateExplorer
    from .tiles import TileExplorer

_HOMES = {
    "SoftmaxExplorer": "softmax",
    "LookupExplorer": "lookup",
    "QKVExplorer": "qkv",
    "PositionExplorer": "position",
    "MultiHeadExplorer": "multihead",
    "MaskExplorer": "maskeditor",
    "AlignmentExplorer": "alignment",
    "CostExplorer": "costs",
    "TileExplorer": "tiles",
    "PatternExplorer": "patterns",
    "StateExplorer": "states",
    "Quiz": "quiz",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
