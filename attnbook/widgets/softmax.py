"""The softmax explorer: logits and a temperature in, probabilities and their entropy out."""

import numpy as np
import traitlets

from .. import functional
from ._base import Array, Explorer, Labels, Number, Result

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class SoftmaxExplorer(Explorer):
    """A slider for each logit and for the temperature; the probabilities as bars, and their entropy.

    `.logits` (2 to 10 numbers), `.labels` (a string each) and `.temperature` follow the sliders and may be set;
    `.weights` and `.entropy` (nats) are computed from them. All can be observed. Without labels, the logits are named
    z₁, z₂, …; when their number changes and no labels come with them, new ones are so named and the last are cut.
    """

    module = "softmax"

    logits = Array([2.0, 1.0, 0.1], sizes=((2, 10),), within=1e15, help="what softmax is taken of")
    labels = Labels(help="a name for each logit", most=10)
    temperature = Number(1.0, above=0, help="divides the logits")
    weights = Result(instead="logits or temperature", help="softmax(logits / temperature)")
    entropy = Result(instead="logits or temperature", help="of the weights, in nats")

    def __init__(self, logits=(2.0, 1.0, 0.1), labels=None, temperature=1.0, **kwargs):
        names = {} if labels is None else {"labels": labels}
        super().__init__(logits=logits, temperature=temperature, **names, **kwargs)
        self._name()
        self._compute()

    @traitlets.validate("labels")
    def _one_each(self, proposal):
        if len(proposal.value) != len(self.logits):
            raise traitlets.TraitError(
                f"labels must be one string for each of the {len(self.logits)} logits, got {len(proposal.value)}"
            )
        return proposal.value

    @traitlets.observe("logits")
    def _name(self, _change=None):
        n = len(self.logits)
        if len(self.labels) != n:
            fresh = (f"z{i}".translate(_SUBSCRIPTS) for i in range(len(self.labels) + 1, n + 1))
            self.labels = (*self.labels, *fresh)[:n]

    @traitlets.observe("logits", "temperature")
    def _compute(self, _change=None):
        weights = functional.softmax(np.array(self.logits), temperature=self.temperature)
        self._publish(weights=weights, entropy=float(functional.entropy(weights)))

    def _summary(self) -> str:
        return f"{len(self.logits)} logits, temperature={self.temperature:g}"
