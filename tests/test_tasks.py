"""attnbook.tasks: the worlds are what they say, their answers are right, and held-out means held out."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest
import torch

from attnbook.tasks import dates, recall, scenes

# Written down once: what draws differently from these trains every model of the book differently.
FIRST_DATE = "on the twentieth of june in 2008"
FIRST_SCENE = [scenes.Thing("triangle", "black", 10), scenes.Thing("cross", "pink", 3)]
EVERY_DAY = [dates.FIRST + timedelta(n) for n in range((dates.LAST - dates.FIRST).days + 1)]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# Dates -----------------------------------------------------------------------------------------------------------


def test_a_date_in_every_form():
    texts = [" ".join(dates.write(date(1998, 3, 3), form).source) for form in range(len(dates.FORMS))]
    assert texts == [
        "3 march 1998",
        "march 3 , 1998",
        "mar 3 1998",
        "tuesday , 3 mar 1998",
        "the third of march 1998",
        "tuesday the third of march 1998",
        "in 1998 , on march the third",
        "on the third of march in 1998",
    ]
    assert {dates.write(date(1998, 3, 3), form).target for form in range(len(dates.FORMS))} == {"1998-03-03"}


@pytest.mark.parametrize("form", range(len(dates.FORMS)))
def test_the_gold_words_decide_the_characters(form):
    """Change the day, the month or the year alone: the words that change are the gold ones of what changes."""
    here = dates.write(date(1998, 3, 3), form)
    for other, places in ((date(1998, 3, 14), [8, 9]), (date(1998, 12, 3), [5, 6]), (date(2007, 3, 3), [0, 1, 2, 3])):
        there = dates.write(other, form)
        changed = {i for i, pair in enumerate(zip(here.source, there.source)) if pair[0] != pair[1]}
        weekday = {i for i, word in enumerate(here.source) if word in dates.WEEKDAYS}
        for place in places:
            assert here.gold[place] == there.gold[place] == changed - weekday and len(here.gold[place]) == 1
    assert here.gold[4] == here.gold[7] == set(), "nothing decides a hyphen"


def test_every_day_is_written_right_with_known_words():
    for number, day in enumerate(EVERY_DAY):
        written = dates.write(day, number % len(dates.FORMS))
        assert written.target == day.isoformat()
        assert dates.words(dates.source_ids(written.source)) == written.source
        assert dates.characters(dates.target_ids(written.target)) == written.target


def test_ordinals_and_vocabularies():
    assert [dates.NTH[n - 1] for n in (1, 2, 3, 12, 20, 21, 30, 31)] == [
        "first", "second", "third", "twelfth", "twentieth", "twenty-first", "thirtieth", "thirty-first"]
    for tokens in (dates.SOURCE, dates.TARGET, dates.NTH):
        assert len(set(tokens)) == len(tokens)
    assert len(dates.NTH) == 31 and dates.SOURCE[dates.PAD] == "·" and dates.TARGET[dates.START] == "▸"


def test_a_batch_of_dates_is_filled_up_and_says_where():
    batch = dates.batch(50, seeded(1))
    n_source = int(batch.lengths.max())
    assert batch.source.shape == (50, n_source) and batch.target.shape == (50, 10)
    assert batch.gold.shape == (50, 10, n_source) and batch.gold.dtype == torch.bool
    real = torch.arange(n_source) < batch.lengths[:, None]
    assert torch.equal(batch.source != dates.PAD, real)
    assert not (batch.gold & ~real[:, None]).any()
    decided = [True] * 4 + [False] + [True] * 2 + [False] + [True] * 2
    assert (batch.gold.sum(-1) == torch.tensor(decided)).all()
    for source, target, gold in zip(batch.source, batch.target, batch.gold):
        year, day = (dates.SOURCE[source[gold[i]]] for i in (0, 8))
        iso = dates.characters(target)
        assert iso[:4] == year and int(iso[8:]) == (int(day) if day.isdigit() else dates.NTH.index(day) + 1)


def test_dates_are_the_same_for_a_seed_and_others_for_another():
    first, again, other = (dates.batch(8, seeded(seed)) for seed in (3, 3, 4))
    assert all(map(torch.equal, first, again))
    assert dates.characters(first.target[0]) != dates.characters(other.target[0])
    assert " ".join(dates.words(dates.batch(1, seeded(0)).source[0])) == FIRST_DATE


def test_held_out_dates_never_train_but_their_words_do():
    def days(held_out):
        return {dates.characters(t) for t in dates.batch(20_000, seeded(5), held_out).target}

    training, held_out = days(False), days(True)
    assert not training & held_out
    assert all(dates.is_held_out(date.fromisoformat(iso)) for iso in held_out)
    assert len({iso[:4] for iso in training}) == 100 and len({iso[5:] for iso in training}) == 366
    assert sum(map(dates.is_held_out, EVERY_DAY)) * 5 == len(EVERY_DAY)


@pytest.mark.parametrize("call, named", [
    (lambda: dates.write(date(1949, 12, 31)), "day must be a date from 1950-01-01 to 2049-12-31"),
    (lambda: dates.write("1998-03-03"), "day must be a date"),
    (lambda: dates.write(datetime(1998, 3, 3)), "day must be a date"),
    (lambda: dates.write(date(1998, 3, 3), 8), "form must be an index of the 8 forms, got 8"),
    (lambda: dates.write(date(1998, 3, 3), -1), "form must be an integer"),
    (lambda: dates.collate([]), "written must hold at least one date"),
    (lambda: dates.batch(0, seeded(0)), "n must be an integer of at least 1, got 0"),
    (lambda: dates.source_ids(["3", "marsh"]), "words must be of this task's .* got 'marsh'"),
    (lambda: dates.target_ids("1998/"), "characters must be of this task's 12 tokens, got '/'"),
])
def test_wrong_dates_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# Scenes ----------------------------------------------------------------------------------------------------------


def test_things_are_drawn_where_they_say():
    things = [scenes.Thing("circle", "blue", 6), scenes.Thing("cross", "red", 15)]
    cut = scenes.patches(scenes.draw(things)).reshape(16, 8, 8, 3)
    paper = torch.tensor(scenes.PAPER)
    for cell in range(16):
        here = {thing.cell: thing for thing in things}.get(cell)
        inked = (cut[cell] != paper).any(-1)
        want = scenes.SHAPES[here.shape] if here else np.zeros((8, 8), dtype=bool)
        assert np.array_equal(inked.numpy(), want)
        if here:
            assert torch.equal(cut[cell][inked].unique(dim=0)[0], torch.tensor(scenes.COLOURS[here.colour]))


def test_patches_go_row_by_row_and_keep_their_pixels_in_order():
    image = torch.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).float()
    cut = scenes.patches(image)
    assert cut.shape == (2, 16, 192)
    for cell in range(16):
        row, column = divmod(cell, 4)
        block = image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert torch.equal(cut[:, cell], block.flatten(1))
    assert scenes.patches(image[0]).shape == (16, 192)


def test_shapes_fit_their_cell_and_differ():
    areas = {name: int(mask.sum()) for name, mask in scenes.SHAPES.items()}
    assert len({mask.tobytes() for mask in scenes.SHAPES.values()}) == 4 and min(areas.values()) >= 20
    for mask in scenes.SHAPES.values():
        assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any(), "a rim of paper around each"


def test_a_scene_holds_different_things():
    drawn = [scenes.scene(seeded(seed), held_out) for seed in range(60) for held_out in (False, True)]
    assert {len(things) for things in drawn} == {2, 3, 4}
    for things in drawn:
        for field in ("shape", "colour", "cell"):
            assert len({getattr(thing, field) for thing in things}) == len(things)
    assert {thing.cell for things in drawn for thing in things} == set(range(16))


def test_questions_have_the_right_answer_at_the_gold_patch():
    batch = scenes.batch(60, seeded(2))
    shapes_asked = set()
    for image, question, answer, gold in zip(*batch):
        text = [scenes.WORDS[i] for i in question]
        shape = text[scenes.ASKED]
        assert text == ["what", "colour", "is", "the", shape, "?"]
        (patch,) = scenes.patches(image)[gold].reshape(-1, 8, 8, 3)
        colour = torch.tensor(scenes.COLOURS[scenes.ANSWERS[answer]])
        assert torch.equal((patch == colour).all(-1), torch.from_numpy(scenes.SHAPES[shape]))
        shapes_asked.add(shape)
    assert shapes_asked == set(scenes.SHAPES)


def test_scenes_are_the_same_for_a_seed_and_others_for_another():
    first, again, other = (scenes.batch(8, seeded(seed)) for seed in (3, 3, 4))
    assert all(map(torch.equal, first, again)) and not torch.equal(first.image, other.image)
    assert scenes.scene(seeded(0)) == FIRST_SCENE


def test_held_out_scenes_never_train():
    def pictures(held_out):
        return {image.numpy().tobytes() for image in scenes.batch(500, seeded(7), held_out).image}

    assert not pictures(False) & pictures(True)
    assert scenes.is_held_out([scenes.Thing("circle", "blue", 2), scenes.Thing("cross", "red", 3)])


@pytest.mark.parametrize("call, named", [
    (lambda: scenes.draw([scenes.Thing("star", "blue", 0)]), "things must have a shape of .*star"),
    (lambda: scenes.draw([scenes.Thing("circle", "beige", 0)]), "things must have .*beige"),
    (lambda: scenes.draw([scenes.Thing("circle", "blue", 16)]), "things must have .*cell=16"),
    (lambda: scenes.draw([scenes.Thing("circle", "blue", 3), scenes.Thing("cross", "red", 3)]), "cells of their own"),
    (lambda: scenes.patches(torch.zeros(32, 32)), "image must have shape"),
    (lambda: scenes.patches(torch.zeros(3, 32, 32)), "image must have shape"),
    (lambda: scenes.ask("star"), "shape must be one of .* got 'star'"),
    (lambda: scenes.batch(-1, seeded(0)), "n must be an integer of at least 1, got -1"),
])
def test_wrong_scenes_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# Recall ----------------------------------------------------------------------------------------------------------


def test_what_is_asked_was_said():
    n_keys, n_values = 20, 7
    tokens, targets = recall.batch(seeded(1), 50, n_pairs=6, n_keys=n_keys, n_values=n_values, n_queries=3, gap=4)
    assert tokens.shape == targets.shape == (50, 2 * 6 + 4 + 3) and tokens.dtype == torch.int64
    keys, values, gap, asked = tokens[:, :12:2], tokens[:, 1:12:2], tokens[:, 12:16], tokens[:, 16:]
    assert (keys < n_keys).all() and (values >= n_keys).all() and (values < n_keys + n_values).all()
    assert (gap == recall.vocabulary(n_keys, n_values) - 1).all()
    assert (targets[:, :16] == recall.NOT_ASKED).all()
    for row in range(50):
        said = dict(zip(keys[row].tolist(), values[row].tolist()))
        assert len(said) == 6, "keys of a sequence differ"
        assert [said[key] for key in asked[row].tolist()] == targets[row, 16:].tolist()
        assert len(set(asked[row].tolist())) == 3


def test_recall_is_the_same_for_a_seed_and_its_accuracy_counts_what_is_asked():
    first, again, other = (recall.batch(seeded(seed), 8, 4) for seed in (3, 3, 4))
    assert all(map(torch.equal, first, again)) and not torch.equal(first.tokens, other.tokens)
    logits = torch.nn.functional.one_hot(first.targets.clamp(min=0), recall.vocabulary()).float()
    assert recall.accuracy(logits, first.targets) == 1
    logits[:4] = 0
    assert recall.accuracy(logits, first.targets) == 0.5


@pytest.mark.parametrize("options, named", [
    ({"n_pairs": 65}, "n_pairs must be at most n_keys = 64.*got 65"),
    ({"n_pairs": 4, "n_queries": 5}, "n_queries must be at most n_pairs = 4.*got 5"),
    ({"n_pairs": 0}, "n_pairs must be an integer of at least 1, got 0"),
    ({"n_pairs": 2, "gap": -1}, "gap must be an integer of at least 0, got -1"),
    ({"n_pairs": 2, "batch_size": 0}, "batch_size must be"),
])
def test_wrong_recall_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        recall.batch(seeded(0), **{"batch_size": 2} | options)
