"""The table that `progress()` shows."""

import html

from attnbook.exercises import record, table


def state(entry: dict | None) -> tuple[str, str]:
    """Mark and words for what is known of an exercise."""
    if not entry or not entry["tries"]:
        return "○", "a hint seen" if entry and entry["hints"] else ""
    tries = "1 try" if entry["tries"] == 1 else f"{entry['tries']} tries"
    return ("✓", tries) if entry["passed"] else ("✗", f"{tries}, the last: {entry['misconception'] or entry['last']}")


class Progress:
    """One row for each exercise of the book, by chapter."""

    def __init__(self):
        known, self.note = record.read()
        self.rows = [(*state(known.get(e.name)), e) for e in table.everything()]
        self.done = sum(mark == "✓" for mark, _, _ in self.rows)

    @property
    def headline(self) -> str:
        return f"{self.done} of {len(self.rows)} exercises done"

    def __repr__(self):
        width = max((len(str(e)) for _, _, e in self.rows), default=0)
        lines = [f"{mark} {e!s:<{width}}  {e.name:<14}  {words}".rstrip() for mark, words, e in self.rows]
        return "\n".join([*lines, self.headline, *filter(None, [self.note])])

    def _repr_html_(self):
        rows = "".join(
            f"<tr><td>{mark}</td><td style='text-align:left'>{html.escape(str(e))}</td>"
            f"<td style='text-align:left'><code>{e.name}</code></td>"
            f"<td style='text-align:left'>{html.escape(words)}</td></tr>"
            for mark, words, e in self.rows
        )
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<p><strong>{self.headline}</strong></p><table><tbody>{rows}</tbody></table>{note}"
