"""attnbook.train: the same run every time, one that can be stopped and gone on with, and errors that name the cause."""

import io
import signal
import subprocess
import sys

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from attnbook import plots
from attnbook.train import train


def line():
    """A straight line to learn: the model, its batches, its loss."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    batch = lambda generator: (torch.randn(8, 3, generator=generator),)  # noqa: E731
    loss_of = lambda model, x: ((model(x) - x.sum(-1, keepdim=True)) ** 2).mean()  # noqa: E731
    return model, batch, loss_of


def test_it_learns_and_leaves_the_model_in_eval_mode():
    model, batch, loss_of = line()
    run = train(model, batch, loss_of, 300, lr=3e-2)
    assert run.steps == 300 and not run.stopped and repr(run) == "300 steps, seed 0"
    assert run.losses[-1] < 1e-3 < run.losses[0]
    assert not model.training


def test_it_trains_in_training_mode_on_one_thread_with_gradients_of_norm_1_at_most():
    model, batch, loss_of = line()
    modes, threads, before = set(), set(), torch.get_num_threads()
    model.register_forward_pre_hook(lambda model, _: modes.add(model.training))
    model.register_forward_pre_hook(lambda *_: threads.add(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        train(model.eval(), batch, lambda model, x: 1e6 * loss_of(model, x), 3)
    finally:
        torch.set_num_threads(before)
    assert modes == {True} and threads == {1}
    assert torch.cat([part.grad.flatten() for part in model.parameters()]).norm() <= 1.0001


def test_the_same_seed_gives_the_same_run_with_any_number_of_threads():
    losses = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            losses[threads] = train(*line(), 20).losses
            assert torch.get_num_threads() == threads, "given back as it was"
    finally:
        torch.set_num_threads(before)
    assert losses[1] == losses[2]
    assert train(*line(), 20, seed=1).losses != losses[1]


def test_going_on_is_as_if_it_had_never_stopped():
    whole = train(*line(), 30, lr=lambda step: 1e-2 / (1 + step))
    parts = line()
    half = train(*parts, 12, lr=lambda step: 1e-2 / (1 + step))
    rest = train(*parts, 18, lr=lambda step: 1e-2 / (1 + step), run=half)
    assert rest is half and rest.losses == whole.losses
    with pytest.raises(ValueError, match="run must be of the same model"):
        train(*line(), 1, run=half)


def test_the_learning_rate_follows_the_step_over_all_calls():
    parts = line()
    rates = []
    parts[0].register_forward_pre_hook(lambda *_: rates.append(run.optimizer.param_groups[0]["lr"]))
    run = train(*parts, 0)
    for steps in (3, 2):
        train(*parts, steps, lr=lambda step: 1e-2 / (1 + step), run=run)
    assert rates == [1e-2, 1e-2 / 2, 1e-2 / 3, 1e-2 / 4, 1e-2 / 5]


def test_an_interrupt_stops_after_the_step_and_keeps_what_was_learned():
    model, batch, loss_of = line()

    def interrupted(generator):
        if len(seen) == 5:
            signal.raise_signal(signal.SIGINT)
        seen.append(model.weight.detach().clone())
        return batch(generator)

    seen = []
    run = train(model, interrupted, loss_of, 1000)
    assert run.stopped and run.steps == 6 and repr(run) == "stopped after 6 steps, seed 0"
    assert not torch.equal(seen[5], model.weight), "the step in which it was asked is finished"
    assert train(model, batch, loss_of, 4, run=run).steps == 10 and not run.stopped


def test_a_second_interrupt_stops_at_once():
    model, batch, loss_of = line()

    def deaf(generator):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(model, deaf, loss_of, 1000)
    assert signal.getsignal(signal.SIGINT) is before and not model.training


def test_a_gradient_that_is_not_finite_costs_nothing_of_what_was_learned():
    model, batch, loss_of = line()
    run = train(model, batch, loss_of, 5)
    before = model.weight.detach().clone()
    cusp = lambda model, x: loss_of(model, x) + (0 * model.weight).sum().sqrt()  # noqa: E731 (its slope is 0 · ∞)
    with pytest.raises(FloatingPointError, match="loss_of gave a gradient of size nan at step 5, its loss is fine"):
        train(model, batch, cusp, 5, run=run)
    assert torch.equal(before, model.weight) and run.steps == 5 and not model.training
    assert train(model, batch, loss_of, 3, run=run).steps == 8


def test_the_curve_shows_each_step_and_the_average():
    run = train(*line(), 40)
    axes = run.curve("The loss falls", smooth=4)
    each, average = (drawn.get_ydata() for drawn in axes.lines)
    assert list(each) == run.losses
    assert average[-1] == pytest.approx(sum(run.losses[-4:]) / 4) and average[0] == run.losses[0]
    assert "Figure: " in repr(plots.show(axes, alt="the loss of each step"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(steps=-1), ValueError, "steps must be an integer of at least 0, got -1"),
        (dict(lr=0), ValueError, "lr must be positive, got 0"),
        (dict(lr="fast"), TypeError, "lr must be a number, got 'fast'"),
        (dict(seed=1.5), ValueError, "seed must be an integer of at least 0, got 1.5"),
        (dict(loss_of=lambda model, x: model(x)), TypeError, r"loss_of must return a scalar tensor, got .*8, 1"),
        (dict(loss_of=lambda model, x: 0.5), TypeError, "loss_of must return a scalar tensor, got float"),
        (dict(loss_of=lambda model, x: model(x).sum() * torch.nan), FloatingPointError, "nan at step 0: is lr = 0.003"),
    ],
)
def test_it_says_what_is_wrong(change, error, message):
    model, batch, loss_of = line()
    before = model.weight.detach().clone()
    with pytest.raises(error, match=message):
        train(**(dict(model=model, batch=batch, loss_of=loss_of, steps=2) | change))
    assert torch.equal(before, model.weight)


def test_a_notebook_shows_a_bar_and_keeps_one_line():
    """In a kernel: a widget while it runs; then a line that is the same at every run, and says so if it was stopped."""
    learn = "train(model, batch, loss_of, {}, run=None)"
    source = """import sys, signal, torch
from attnbook.train import train
model = torch.nn.Linear(3, 1)
stop_at = None
def batch(generator):
    global stop_at
    stop_at = stop_at and stop_at - 1
    if stop_at == 0:
        signal.raise_signal(signal.SIGINT)
    return (torch.randn(8, 3, generator=generator),)
loss_of = lambda model, x: (model(x) ** 2).mean()"""
    cells = [source, f"run = {learn.format(20)}", f"stop_at = 5\nrun = {learn.format(1000)}"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    (whole,), (stopped,) = (cell.outputs for cell in notebook.cells[1:])
    assert whole.data == {"text/plain": "20 steps, seed 0"}
    assert stopped.data["text/plain"].startswith("stopped after 5 steps, seed 0: what it learned is kept; train(…, run")


def test_a_pipe_gets_no_bar():
    code = "import sys; sys.path.insert(0, 'tests'); from test_train import line, train; train(*line(), 5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    train(*line(), 5)
    assert "/5" in screen.getvalue()
