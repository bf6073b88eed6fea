"""Training tells when it begins to memorise: the loss on training images falls below that on held-out ones."""

import numpy as np
import pytest
import torch
from tiny import in_process

from ddpm import data
from ddpm.config import preset
from ddpm.data import DataOptions, Images
from ddpm.metrics import memorises, read_metrics
from ddpm.training import memorising
from ddpm.training.recipe import make_scheduler
from ddpm.validation import Validation


def images_of(train, evaluation, **groups):
    shape = (1, 8, 8)
    pixels = [np.random.default_rng(n).integers(0, 256, (n, *shape), np.uint8) for n in (train, evaluation)]
    return Images(*pixels, "0" * 64, **groups)


def pair(images, count=64):
    scheduler = make_scheduler(preset("digits"))
    held_out = Validation(images.eval, scheduler, count, groups=images.eval_groups)
    return held_out, memorising.on_training_images(images, held_out, scheduler)


def test_both_losses_have_the_same_timesteps_and_noise_and_differ_in_images():
    images = images_of(100, 9)
    held_out, learnt = pair(images)
    known, unknown = ({pixels.tobytes() for pixels in split} for split in (images.train, images.eval))
    seen = set()
    for (x, t, eps, _), (y, s, noise, _) in zip(held_out.batches, learnt.batches, strict=True):
        assert torch.equal(t, s)
        assert torch.equal(eps, noise)
        assert {pixels.tobytes() for pixels in x} <= unknown
        seen |= {pixels.tobytes() for pixels in y}
    assert seen <= known
    assert len(seen) == 9, "as many as there are held-out images"
    assert len(np.unique(held_out.group)) == len(np.unique(learnt.group)) == 9, "each is a group by itself"
    # Fewer training images than held-out ones, as in a tiny set with a large test split.
    few = pair(images_of(5, 12))[1]
    assert len(np.unique(few.group)) == 5


def test_training_images_are_drawn_in_groups_where_held_out_ones_are():
    images = images_of(400, 20, train_groups=np.arange(400) // 4, eval_groups=1000 + np.arange(20) // 4)
    held_out, learnt = pair(images, 20)
    assert sorted(np.unique(held_out.group, return_counts=True)[1]) == [4] * 5
    assert sorted(np.unique(learnt.group, return_counts=True)[1]) == [4] * 5


def test_the_error_of_the_difference_counts_images_and_not_triples():
    """Against the spread of the difference in simulations: images differ, triples of one image are alike."""
    rng, differences, errors = np.random.default_rng(0), [], []
    for _ in range(400):
        group = [np.repeat(rng.permutation(16), 8), np.repeat(rng.permutation(16), 8)]
        of_t = rng.random(128) * 10  # what both have in common, which is much more than all the rest
        both = [torch.from_numpy(of_t + rng.normal(0, 1, 16)[g] + rng.normal(0, 0.3, 128)) for g in group]
        differences.append(float((both[0] - both[1]).mean()))
        errors.append(memorising.gap_error(*both, tuple(group)))
    assert 0.85 < np.mean(errors) / np.std(differences) < 1.1
    over = np.mean(np.abs(differences) > 3 * np.array(errors))
    assert over < 0.02


def test_a_few_images_do_not_tell_whether_a_difference_is_due_to_chance():
    """The residuals of a single held-out image add up to 0, so any difference would be many standard errors."""
    rng = np.random.default_rng(0)
    held_out, learnt = (torch.from_numpy(rng.normal(1, 0.1, 40)) for _ in range(2))
    one, ten = np.zeros(40, np.int64), np.arange(40) % 10
    assert memorising.gap_error(held_out, learnt, (one, ten)) is None
    assert memorising.gap_error(held_out, learnt, (ten, ten % 9)) is None
    assert memorising.gap_error(held_out, learnt, (ten, ten)) > 0.005


def row_of(step, train, held_out, error):
    return {"kind": "validation", "step": step, "val_loss_ema": held_out, "train_loss_ema": train, "loss_gap_se": error}


def test_what_counts_as_memorising():
    assert memorises(row_of(1, 0.030, 0.0361, 0.002))
    assert not memorises(row_of(1, 0.030, 0.0359, 0.002))
    assert not memorises(row_of(1, 0.036, 0.030, 0.001)), "held-out images may be the easier ones"
    assert not memorises({"kind": "validation", "step": 1, "val_loss_ema": 0.03}), "of an earlier version"
    assert not memorises({"kind": "validation", "step": 1, "val_loss_ema": 0.9, "train_loss_ema": 0.1}), "few images"
    assert not memorises({})


@pytest.mark.long
def test_a_run_that_memorises_says_so_once_and_one_that_does_not_is_silent(tmp_path, caplog, monkeypatch):
    """Sixteen training images, in a network that has room for them."""
    digits = data.prepare(DataOptions())
    few = Images(digits.train[:16].copy(), digits.eval, "1" * 64)
    options = {
        "block_out_channels": (32, 32),
        "max_train_steps": 240,
        "validation_steps": 60,
        "checkpointing_steps": 120,
    }
    options |= {
        "learning_rate": 4e-3,
        "num_validation_images": 256,
        "plots": True,
        "ema_ramp_up": 0.05,
        "sample_steps": 1,
    }
    with monkeypatch.context() as patched:
        patched.setattr(data, "prepare", lambda *_, **__: few)
        in_process(tmp_path / "few", should_stop=lambda step: step == 120, **options)
        stopped = [r.getMessage() for r in caplog.records if "begins to memorise" in r.getMessage()]
        in_process(tmp_path / "few", **options)
    said = [r.getMessage() for r in caplog.records if "begins to memorise" in r.getMessage()]
    rows = [row for row in read_metrics(tmp_path / "few/metrics.jsonl") if row["kind"] == "validation"]
    first = next(row for row in rows if memorises(row))
    assert len(said) == 1
    assert len(stopped) <= 1
    assert said[0].startswith(f"Step {first['step']}: the network begins to memorise. Its loss is ")
    assert rows[-1]["val_loss_ema"] > 1.3 * rows[-1]["train_loss_ema"]
    card = (tmp_path / "few/README.md").read_text()
    assert "It has begun to memorise: its loss on training images is" in card
    assert "| epsilon-MSE of frozen training images |" in card
    caplog.clear()
    in_process(tmp_path / "all", **(options | {"max_train_steps": 60, "plots": False}))
    assert not [r for r in caplog.records if "memorise" in r.getMessage()]
    card = (tmp_path / "all/README.md").read_text()
    assert "no sign of memorising single training images" in card
