"""`ddpm.cuda_graphs`, with a recorder that needs no GPU: like a graph, it reads and writes memory of its own."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm import checkpoint
from ddpm.cuda_graphs import MAX_KEPT, MAX_VALUES, Graphs, Recorded, record
from ddpm.engine import Engine
from ddpm.sampling import sample


class Recorder:
    """Counts what is recorded. A recorded network computes only from its own memory, and answers in the same place."""

    def __init__(self, fails: bool = False) -> None:
        self.shapes, self.fails = [], fails

    def __call__(self, network, inputs):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.shapes.append(tuple(inputs[0].shape))
        own = tuple(torch.full_like(x, -1) if x.is_floating_point() else torch.zeros_like(x) for x in inputs)
        answer = torch.empty_like(network(*own))
        return Recorded(own, answer, lambda: answer.copy_(network(*own)))


def network(xt, t, *more):
    return xt * 2 + t.reshape(-1, 1, 1, 1) + sum(x.sum() for x in more)


def inputs(batch, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, 4, 4, generator=draw), torch.randint(0, 9, (batch,), generator=draw)


def test_answers_are_the_networks_and_stay_what_they_were():
    recorder = Recorder()
    graphs = Graphs(network, recorder)
    given = [inputs(3, seed) for seed in range(5)]
    answers = [graphs(*x) for x in given]
    for x, answer in zip(given, answers, strict=True):
        assert torch.equal(answer, network(*x)), "an earlier answer must not change with the next call"
    assert recorder.shapes == [(3, 1, 4, 4)], "recorded once, at the second call"


def test_a_sampler_draws_the_same_pictures():
    model = checkpoint.load(checkpoint.EMBEDDED)
    unet = model.unet
    recorder = Recorder()
    graphs = Graphs(lambda *x: unet(*x).sample, recorder)
    for sampler in ("ddpm", "dpm_solver++"):  # the second one keeps earlier answers
        drawn = [
            sample(engine, model.scheduler, (2, 1, 28, 28), sampler=sampler, num_inference_steps=4, seed=1)
            for engine in (Engine(unet, model.scheduler), Engine(unet, model.scheduler, network=graphs))
        ]
        assert torch.equal(*drawn)
    assert recorder.shapes == [(2, 1, 28, 28)]


def test_few_graphs_are_kept_and_large_batches_are_not_recorded():
    recorder = Recorder()
    graphs = Graphs(network, recorder)
    for batch in [*range(1, MAX_KEPT + 2), 1]:
        for _ in range(3):
            assert torch.equal(graphs(*inputs(batch)), network(*inputs(batch)))
    assert [shape[0] for shape in recorder.shapes] == [*range(1, MAX_KEPT + 2), 1], "the oldest one made room"
    large = MAX_VALUES // 16 + 1
    for _ in range(3):
        graphs(*inputs(large))
    assert large not in [shape[0] for shape in recorder.shapes]


def test_a_network_that_cannot_be_recorded_computes_as_before(caplog):
    graphs = Graphs(network, Recorder(fails=True))
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            assert torch.equal(graphs(*inputs(2, seed)), network(*inputs(2, seed)))
    (message,) = caplog.messages
    assert message.endswith("failed: operation not permitted when stream is capturing")


def test_threads_do_not_mix_their_inputs():
    graphs = Graphs(network, Recorder())
    given = [(*inputs(2, seed), torch.full((2, 3), float(seed))) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: graphs(*x), given))
    assert all(torch.equal(answer, network(*x)) for x, answer in zip(given, answers, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_model_computes_what_it_computed():
    model = checkpoint.load(checkpoint.EMBEDDED)
    unet = model.unet.to("cuda")
    plain = lambda *x: unet(*x).sample  # noqa: E731
    graphs = Graphs(plain, record)
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        xt, t = torch.randn(2, 1, 28, 28, generator=draw).cuda(), torch.randint(0, 1000, (2,), generator=draw).cuda()
        with torch.no_grad():
            assert (graphs(xt, t) - plain(xt, t)).abs().max() < 1e-2  # TF32
