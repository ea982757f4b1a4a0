"""One training loop for every small model of the book: seeded, with a progress bar, stoppable, resumable."""

import math
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager

import torch
from tqdm.notebook import tqdm as notebook_bar
from tqdm.std import tqdm as terminal_bar

from attnbook.functional import _number
from attnbook.masks import _integer


class Run:
    """What `train` has done so far: the losses of all steps, and what it needs to go on."""

    def __init__(self, model: torch.nn.Module, seed: int):
        self.model, self.seed = model, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(model.parameters())
        self.losses: list[float] = []
        self.stopped = False

    @property
    def steps(self) -> int:
        """How many steps have been taken, over all calls."""
        return len(self.losses)

    def __repr__(self) -> str:
        return f"{'stopped after ' if self.stopped else ''}{self.steps} steps, seed {self.seed}"

    def curve(self, title: str, smooth: int = 20):
        """The loss of each step, and its average over `smooth` steps, as an Axes for `plots.show`."""
        from attnbook import plots

        steps = range(1, self.steps + 1)
        window = [self.losses[max(0, i - smooth) : i] for i in steps]
        lines = {"each step": self.losses, f"average of {smooth}": [math.fsum(part) / len(part) for part in window]}
        return plots.curve(steps, lines, title=title, xlabel="step", ylabel="loss", log="y")


def train(
    model: torch.nn.Module,
    batch: Callable[[torch.Generator], tuple],
    loss_of: Callable[..., torch.Tensor],
    steps: int,
    lr: float | Callable[[int], float] = 3e-3,
    seed: int = 0,
    run: Run | None = None,
) -> Run:
    """Take `steps` steps of Adam (Kingma and Ba, 2015) on `loss_of(model, *batch(generator))`.

    batch      draws one batch with the torch.Generator that it is given, which starts at `seed`
    loss_of    the loss of a batch, a scalar tensor
    lr         the learning rate, or a function of the step, counted from 0 over all calls
    run        what an earlier call returned: goes on from there, as if it had never stopped

    Gradients are cut to a norm of 1. Interrupting the kernel (Ctrl-C) stops after the current step and keeps what
    was learned; a second time, it stops at once. The model comes as it is (seed torch before building it) and is
    left in eval() mode. One thread does the arithmetic: the book's products are too small to share out, and its sums
    are then the same with any number of cores.

    Raises TypeError or ValueError that names the argument, and FloatingPointError where the loss or its gradient is
    not finite; the model then still has the weights of the step before.
    """
    steps, seed = _integer("steps", steps, 0), _integer("seed", seed, 0)
    rate = lr if callable(lr) else lambda step: lr
    _rate("lr", rate(0))
    if run is None:
        run = Run(model, seed)
    elif run.model is not model:
        raise ValueError("run must be of the same model, got the run of another")
    run.stopped = False
    model.train()
    try:
        with _one_thread(), _interruptible() as asked_to_stop, _progress(run, steps) as bar:
            for _ in range(steps):
                bar.set_postfix(loss=f"{_step(run, batch, loss_of, rate(run.steps)):.3f}", refresh=False)
                bar.update()
                if asked_to_stop.is_set():
                    run.stopped = True
                    break
    finally:
        model.eval()
    return run


def _step(run: Run, batch, loss_of, lr: float) -> float:
    for group in run.optimizer.param_groups:
        group["lr"] = _rate("lr", lr)
    loss = loss_of(run.model, *batch(run.generator))
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        raise TypeError(f"loss_of must return a scalar tensor, got {getattr(loss, 'shape', type(loss).__name__)}")
    if not torch.isfinite(loss):
        raise FloatingPointError(f"loss_of gave {loss.item()} at step {run.steps}: is lr = {lr:g} too large?")
    run.optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    if not torch.isfinite(norm):  # a step along it would make every weight NaN, and what was learned be lost
        raise FloatingPointError(f"loss_of gave a gradient of size {norm.item()} at step {run.steps}, its loss is fine")
    run.optimizer.step()
    run.losses.append(loss.item())
    return run.losses[-1]


def _rate(name: str, lr) -> float:
    lr = _number(name, lr)
    if lr <= 0:
        raise ValueError(f"{name} must be positive, got {lr}")
    return lr


@contextmanager
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interruptible():
    """An Event that is set by the first interrupt: in the middle of a step it would leave half of the weights old."""
    asked = threading.Event()

    def ask(*_):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _in_a_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _progress(run: Run, steps: int):
    """A bar while it runs. In a notebook one line of text takes its place: the same at every run, unless stopped."""
    if not _in_a_notebook():
        with terminal_bar(total=steps, disable=None, leave=False) as bar:  # disable=None: only on a terminal
            yield bar
        return
    from IPython.display import display

    def line() -> str:
        return f"{run!r}{': what it learned is kept; train(…, run=run) goes on' if run.stopped else ''}"

    bar = notebook_bar(total=steps, display=False, leave=False)
    expected = f"{run.steps + steps} steps, seed {run.seed}"
    shown = {**bar.container._repr_mimebundle_(), "text/plain": expected}
    handle = display(shown, raw=True, display_id=True)
    try:
        yield bar
    finally:
        bar.close()
        handle.update({"text/plain": line()}, raw=True)
