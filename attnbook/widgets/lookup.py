"""The lookup explorer: attention over points on a line, which is Nadaraya–Watson kernel regression."""

import math

import traitlets

from .. import functional
from ._base import Array, Explorer, Number, Result

_MOST = 200
_LARGEST, _NARROWEST = 1e15, 1e-12  # room for timestamps in milliseconds; no square of a distance overflows


class LookupExplorer(Explorer):
    """Points with a key (where) and a value (what); a query attends to them with a Gaussian of its distance.

    weights = softmax(-(query - keys)² / (2 bandwidth²)) and out = Σ weights · values: the estimate of Nadaraya and
    Watson (1964). `.keys_`, `.values` (2 to 200 numbers, equally many), `.query` and `.bandwidth` follow the sliders
    and may be set; `.weights` and `.out` are computed from them. All can be observed. (`keys_` with an underscore,
    because every ipywidget has a `keys` of its own: the names of its traits.) To change the number of points, set
    keys_ and values within `with explorer.hold_trait_notifications():`.

    Without a query it stands midway between the outermost keys, and the bandwidth is a tenth of their distance, both
    to two digits of that distance, so that the boxes hold numbers that a person might have typed.
    """

    module = "lookup"

    keys_ = Array([0.0, 1.0], sizes=((2, _MOST),), within=_LARGEST, help="where each point lies")
    values = Array([0.0, 1.0], sizes=((2, _MOST),), within=_LARGEST, help="what each point holds")
    query = Number(0.5, low=-2 * _LARGEST, high=2 * _LARGEST, help="where to look")
    bandwidth = Number(
        0.1, low=_NARROWEST, high=_LARGEST, help="the width h of the Gaussian kernel, in units of the keys"
    )
    weights = Result(instead="keys_, query or bandwidth", help="how much each point counts; they sum to 1")
    out = Result(instead="keys_, values, query or bandwidth", help="the weighted sum of the values")

    def __init__(self, keys, values, query=None, bandwidth=None, **kwargs):
        super().__init__(keys_=keys, values=values, **kwargs)
        low, high = float(self.keys_.min()), float(self.keys_.max())
        self.query = _midway(low, high) if query is None else query
        if bandwidth is None:
            bandwidth = max(float(f"{(high - low) / 10:.2g}"), _NARROWEST) if high > low else 1.0
        self.bandwidth = bandwidth
        self._compute()

    @traitlets.validate("keys_", "values")
    def _equally_many(self, proposal):
        name, other = proposal.trait.name, "values" if proposal.trait.name == "keys_" else "keys_"
        if len(proposal.value) != len(getattr(self, other)):
            raise traitlets.TraitError(
                f"{name} must be as many as {other}, {len(getattr(self, other))}, got {len(proposal.value)}; "
                "to change the number of both, set them within `with explorer.hold_trait_notifications():`"
            )
        return proposal.value

    @traitlets.observe("keys_", "values", "query", "bandwidth")
    def _compute(self, _change=None):
        scores = -(((self.query - self.keys_) / self.bandwidth) ** 2) / 2
        weights = functional.softmax(scores)
        self._publish(weights=weights, out=float(weights @ self.values))

    def _summary(self) -> str:
        return f"{len(self.keys_)} points, query={self.query:g}, bandwidth={self.bandwidth:g}"


def _midway(low: float, high: float) -> float:
    """The middle, to two digits of the distance: to two of its own, years 2012 to 2024 would give the year 2000."""
    if low == high:
        return low
    middle = round((low + high) / 2, 1 - math.floor(math.log10(high - low)))
    return min(max(middle, low), high)
