"""`ddpm.training.graphed`, with a recorder that needs no GPU: like a graph, it computes from memory of its own, and adds
to the gradients where they were when it was recorded."""

import logging
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from tiny import assert_same_run, in_process

import train as trainer
from ddpm.config import preset
from ddpm.cuda_graphs import WARM_UP, Recorded
from ddpm.training import graphed
from ddpm.training.graphed import Graphed


class Recorder:
    def __init__(self, fails: bool = False) -> None:
        self.recorded, self.replayed, self.fails, self.parameters = 0, 0, fails, []

    def __call__(self, compute, inputs):
        for _ in range(WARM_UP):
            compute(*inputs)
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.recorded += 1
        own, answer = tuple(torch.zeros_like(x) for x in inputs), tuple(torch.empty_like(x) for x in compute(*inputs))
        gradients = [(p, p.grad) for p in self.parameters]

        def replay():
            self.replayed += 1
            attached = [p.grad for p in self.parameters]
            for p in self.parameters:
                p.grad = None
            for mine, computed in zip(answer, compute(*own), strict=True):
                mine.copy_(computed)
            for (p, place), seen in zip(gradients, attached, strict=True):
                if p.grad is not None:
                    place += p.grad  # there, whatever the weights have for a gradient now
                p.grad = seen

        return Recorded(own, answer, replay)


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()

    def graphed(compute, config, accelerator, parameters):
        recorder.parameters = list(parameters)
        return Graphed(compute, recorder.parameters, recorder)

    monkeypatch.setattr(trainer, "graphed", graphed)
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


@pytest.mark.parametrize(
    ("machine", "options", "is_graphed"),
    [
        ({}, {}, True),
        ({}, {"cuda_graphs": False}, False),
        ({"device": torch.device("cpu")}, {}, False),
        ({"distributed_type": DistributedType.MULTI_GPU}, {}, False),  # torchrun with one process, too
        ({"scaler": object()}, {}, False),
    ],
)
def test_only_what_a_graph_can_hold_is_recorded(machine, options, is_graphed):
    usual = {"device": torch.device("cuda"), "distributed_type": DistributedType.NO, "scaler": None}
    compute, accelerator = (lambda x: (x,)), SimpleNamespace(**usual | machine)
    made = graphed.graphed(compute, preset("digits", **options), accelerator, [])
    assert isinstance(made, Graphed) == is_graphed
    assert is_graphed or made is compute
