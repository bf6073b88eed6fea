"""A training that is asked to stop while it draws pictures stops at once, and loses nothing that a resumed run needs."""

import pytest
from tiny import assert_same_run, in_process

from ddpm import sampling
from ddpm.names import grid_steps

STOP = {"lr_schedule": "constant", "num_samples": 4, "sample_steps": 6, "validation_steps": 6}


class Asked:
    """Whether somebody asked to stop: from the beginning of sampling number `number` on."""

    def __init__(self, monkeypatch, number):
        self.samplings, self.number = 0, number
        before = sampling.updates

        def updates(*values, **options):
            self.samplings += 1
            return before(*values, **options)

        monkeypatch.setattr(sampling, "updates", updates)

    def __call__(self, step):
        return self.samplings >= self.number


@pytest.mark.long
def test_a_stop_in_a_sample_grid_saves_at_once_and_the_resumed_run_draws_it(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    in_process(whole, **STOP)
    with monkeypatch.context() as patch:
        last = in_process(cut, should_stop=Asked(patch, 1), **STOP)
    assert (last.stopped, last.step, last.saved.state_step) == ("interrupted", 6, 6)
    assert [row["kind"] for row in last.rows] == ["validation"], "its figures are kept"
    assert not (cut / "samples/step-000006.png").exists()
    in_process(cut, **STOP)
    assert_same_run(whole, cut)
    for name in ("step-000006.png", "step-000012.png"):
        assert (cut / "samples" / name).read_bytes() == (whole / "samples" / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize(("number", "missing"), [(2, ["samples/step-000012.png", "strip.png"]), (3, ["strip.png"])])
def test_a_stop_in_the_last_pictures_keeps_the_finished_model(tmp_path, monkeypatch, number, missing):
    with monkeypatch.context() as patch:
        last = in_process(tmp_path / "cut", should_stop=Asked(patch, number), plots=True, **STOP)
    assert (last.stopped, last.saved.model_step, last.saved.state_step) == ("finished", 12, 12)
    assert list(last.saved.missing) == missing
    kept = ("metrics.jsonl", "train_config.json", "checkpoints/step-000012/state.json")
    before = {name: (tmp_path / "cut" / name).read_bytes() for name in kept if (tmp_path / "cut" / name).is_file()}
    assert len(before) >= 2
    again = in_process(tmp_path / "cut", plots=True, **STOP)
    assert again.stopped == "finished before, its last pictures are drawn now"
    assert (again.saved.model_step, again.saved.state_step, dict(again.saved.missing)) == (12, 12, {})
    assert all((tmp_path / "cut" / name).read_bytes() == there for name, there in before.items())
    assert in_process(tmp_path / "cut", plots=True, **STOP).stopped == "finished before, nothing changed"
    in_process(tmp_path / "whole", plots=True, **STOP)
    for name in missing:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    cards = [(tmp_path / run / "README.md").read_text().replace(run, "run") for run in ("cut", "whole")]
    assert all(f"]({name})" in cards[0] for name in missing)
    assert _without_speed(cards[0]) == _without_speed(cards[1])


@pytest.mark.slow
def test_an_earlier_state_of_a_finished_run_draws_nothing_and_removes_nothing(tmp_path):
    options = STOP | {"num_samples": 1, "checkpoints_total_limit": 9}
    in_process(tmp_path, **options)
    (tmp_path / "samples/step-000006.png").unlink()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    earlier = {"resume_from_checkpoint": str(tmp_path / "checkpoints/step-000006"), "max_train_steps": 6}
    assert in_process(tmp_path, **options | earlier).stopped == "finished before, nothing changed"
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_picture_that_still_cannot_be_saved_is_not_said_to_be_drawn(tmp_path):
    in_process(tmp_path, **STOP)
    (tmp_path / "samples").rename(tmp_path / "samples-aside")
    (tmp_path / "samples").touch()
    again = in_process(tmp_path, **STOP)
    assert again.stopped == "finished before, nothing changed"
    assert list(again.saved.missing) == ["samples/step-000012.png"]


def _without_speed(card):
    return [line for line in card.splitlines() if not line.startswith(("| speed", "| `output_dir"))]


def test_a_short_training_draws_its_grid_in_as_many_steps_and_the_card_says_so(tmp_path):
    assert [grid_steps(250, trained) for trained in (4, 250, 800_000)] == [4, 250, 250]
    in_process(tmp_path, **STOP | {"max_train_steps": 4})
    assert "4 steps" in (tmp_path / "README.md").read_text()
