"""`ddpm.training.graphed`, with a recorder that needs no GPU: like a graph, it computes from memory of its own, and adds
to the gradients where they were when it was recorded."""

import logging

import pytest
import torch
from tiny import assert_same_run, in_process

import train as trainer
from ddpm.cuda_graphs import WARM_UP, Recorded
from ddpm.training import graphed
from ddpm.training.graphed import Graphed


class Recorder:
    def __init__(self, fails: bool = False) -> None:
        self.recorded, self.replayed, self.fails = 0, 0, fails

    def __call__(self, compute, inputs):
        for _ in range(WARM_UP):
            compute(*inputs)
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.recorded += 1
        own, answer = tuple(torch.zeros_like(x) for x in inputs), tuple(torch.empty_like(x) for x in compute(*inputs))

        def replay():
            self.replayed += 1
            for mine, computed in zip(answer, compute(*own), strict=True):
                mine.copy_(computed)

        return Recorded(own, answer, replay)


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(trainer, "graphed", lambda compute, config, accelerator, p: Graphed(compute, p, recorder))
    return recorder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 3, "train_batch_size": 8, "class_conditional": True},
        {"variance_type": "learned_range", "timestep_sampler": "loss_second_moment"},
    ],
)
def test_the_run_is_the_same(tmp_path, monkeypatch, recorder, options):
    in_process(tmp_path / "graphed", **options)
    monkeypatch.undo()
    in_process(tmp_path / "plain", **options)
    assert_same_run(tmp_path / "graphed", tmp_path / "plain")
    assert (recorder.recorded, recorder.replayed) == (1, 12 * options.get("gradient_accumulation_steps", 1))


def test_a_recording_that_fails_costs_nothing_but_a_line(tmp_path, monkeypatch, recorder, caplog):
    recorder.fails = True
    with caplog.at_level(logging.WARNING, logger=graphed.__name__):
        in_process(tmp_path / "failed")
    (said,) = [line.getMessage() for line in caplog.records if line.name == graphed.__name__]
    assert said.endswith("recording a step failed: operation not permitted when stream is capturing")
    monkeypatch.undo()
    in_process(tmp_path / "plain")
    assert_same_run(tmp_path / "failed", tmp_path / "plain")
