"""attnbook: the code behind the interactive textbook on attention.

`import attnbook` is cheap: a submodule, and what it needs (torch, matplotlib, ipywidgets), loads when first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_SUBMODULES = (
    "bench", "book", "cli", "costs", "efficient", "exercises", "functional", "layers", "masks", "plots", "positions",
    "quizzes", "tasks", "train", "widgets",
)
_FUNCTIONS = {
    "attention": "functional",
    "softmax": "functional",
    "logsumexp": "functional",
    "causal": "masks",
    "padding": "masks",
}
__all__ = ["__version__", *_SUBMODULES, *_FUNCTIONS]


def __getattr__(name: str):
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'attnbook' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
