"""What the reader has done, in a file that outlives kernels and versions of the book.

    {"version": 1, "exercises": {"03.scores": {"tries": 2, "passed": true, "hints": 1, "last": "right"}}}

Exercises that this version of the book does not know stay in the file. A file that cannot be read is set aside.
"""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path

import platformdirs
from filelock import FileLock

VERSION = 1
NEW = {"tries": 0, "passed": False, "hints": 0, "last": "", "misconception": None}


def folder() -> Path:
    """Where the file is: $ATTNBOOK_HOME, or where this system keeps a user's data."""
    return Path(os.environ.get("ATTNBOOK_HOME") or platformdirs.user_data_dir("attnbook", appauthor=False))


def read() -> tuple[dict[str, dict], str]:
    """What is known of each exercise, and a note if the file was damaged."""
    path = folder() / "progress.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _entry(entry) for name, entry in data["exercises"].items()}, ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"{path} cannot be read ({error.strerror}): starting from nothing."
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        aside = path.with_name(f"progress.json.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            os.replace(path, aside)
        except OSError as error:
            return {}, f"{path} is damaged, and could not be set aside: {error.strerror}."
        return {}, f"The file with your progress was damaged. It is kept as {aside}, and a new one begins."


def _entry(entry: dict) -> dict:
    """An entry with all that belongs to it. Raises TypeError if a part is of another kind than it must be."""
    for key in NEW.keys() & entry.keys():
        kinds = (str, type(None)) if key == "misconception" else type(NEW[key])
        if not isinstance(entry[key], kinds):
            raise TypeError(f"{key} is {entry[key]!r}")
    return NEW | entry


def update(name: str, **changes) -> str:
    """Change what is known of one exercise; a change may be a function of the old value. Returns a note, or nothing.

    The new file replaces the old one in one step: whoever reads sees one or the other.
    """
    with contextlib.ExitStack() as alone:
        with contextlib.suppress(OSError):  # where nothing can be written, or another holds on: _update says it or wins
            folder().mkdir(parents=True, exist_ok=True)
            alone.enter_context(FileLock(folder() / "progress.lock", timeout=2))
        return _update(name, changes)


def _update(name: str, changes: dict) -> str:
    known, note = read()
    entry = NEW | known.get(name, {})
    known[name] = entry | {key: new(entry[key]) if callable(new) else new for key, new in changes.items()}
    text = json.dumps({"version": VERSION, "exercises": known}, indent=1, sort_keys=True, ensure_ascii=False)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=folder(), prefix="progress.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, folder() / "progress.json")
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        note = f"Your progress could not be kept in {folder()}: {error.strerror}."
    return note
