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
    before = (tmp_path / "cut/metrics.jsonl").read_bytes()
    again = in_process(tmp_path / "cut", plots=True, **STOP)
    assert again.stopped == "finished before, the pictures that were missing are drawn"
    assert (again.saved.model_step, again.saved.state_step, dict(again.saved.missing)) == (12, 12, {})
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == before
    assert in_process(tmp_path / "cut", plots=True, **STOP).stopped == "finished before, nothing changed"
    in_process(tmp_path / "whole", plots=True, **STOP)
    for name in missing:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_short_training_draws_its_grid_in_as_many_steps_and_the_card_says_so(tmp_path):
    assert [grid_steps(250, trained) for trained in (4, 250, 800_000)] == [4, 250, 250]
    in_process(tmp_path, **STOP | {"max_train_steps": 4})
    assert "4 steps" in (tmp_path / "README.md").read_text()
