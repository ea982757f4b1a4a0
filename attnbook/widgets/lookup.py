"""The lookup explorer: attention over points on a line, which is Nadaraya–Watson kernel regression."""

import numpy as np
import traitlets

from .. import functional
from ._base import Array, Explorer, Number, Result

_MOST = 200


class LookupExplorer(Explorer):
    """Points with a key (where) and a value (what); a query attends to them with a Gaussian of its distance.

    weights = softmax(-(query - keys)² / (2 bandwidth²)) and out = Σ weights · values: the estimate of Nadaraya and
    Watson (1964). `.keys_`, `.values` (2 to 200 numbers, equally many), `.query` and `.bandwidth` follow the sliders
    and may be set; `.weights` and `.out` are computed from them. All can be observed. (`keys_` with an underscore,
    because every ipywidget has a `keys` of its own: the names of its traits.) To change the number of points, set
    keys_ and values within `with explorer.hold_trait_notifications():`.

    Without a query it stands midway between the outermost keys, and the bandwidth is a tenth of their distance, both
    to two digits, so that the boxes hold numbers that a person might have typed.
    """

    module = "lookup"

    keys_ = Array([0.0, 1.0], sizes=((2, _MOST),), help="where each point lies")
    values = Array([0.0, 1.0], sizes=((2, _MOST),), help="what each point holds")
    query = Number(0.5, help="where to look")
    bandwidth = Number(0.1, above=0, help="the width h of the Gaussian kernel, in units of the keys")
    weights = Result(instead="keys_, query or bandwidth", help="how much each point counts; they sum to 1")
    out = Result(instead="keys_, values, query or bandwidth", help="the weighted sum of the values")

    def __init__(self, keys, values, query=None, bandwidth=None, **kwargs):
        super().__init__(keys_=keys, values=values, **kwargs)
        low, high = float(self.keys_.min()), float(self.keys_.max())
        self.query = float(f"{(low + high) / 2:.2g}") if query is None else query
        self.bandwidth = (float(f"{(high - low) / 10:.2g}") or 1.0) if bandwidth is None else bandwidth
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
        scores = -((self.query - self.keys_) ** 2) / (2 * self.bandwidth**2)
        weights = functional.softmax(scores)
        self._publish(weights=weights, out=float(weights @ self.values))

    def _summary(self) -> str:
        return f"{len(self.keys_)} points, query={self.query:g}, bandwidth={self.bandwidth:g}"
