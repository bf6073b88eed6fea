"""`ddpm.cuda_graphs`, with a recorder that needs no GPU: like a graph, it reads and writes memory of its own."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm import checkpoint
from ddpm.cuda_graphs import MAX_KEPT, MAX_VALUES, WORTH, Graphs, Recorded
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
    given = [inputs(3, seed) for seed in range(WORTH + 4)]
    answers = [graphs(*x) for x in given]
    for x, answer in zip(given, answers, strict=True):
        assert torch.equal(answer, network(*x)), "an earlier answer must not change with the next call"
    assert recorder.shapes == [(3, 1, 4, 4)], "recorded once"


def test_a_sampler_draws_the_same_pictures():
    model = checkpoint.load(checkpoint.EMBEDDED)
    unet = model.unet
    recorder = Recorder()
    graphs = Graphs(lambda *x: unet(*x).sample, recorder)
    for sampler in ("ddpm", "dpm_solver++"):  # the second one keeps earlier answers
        drawn = [
            sample(engine, model.scheduler, (2, 1, 28, 28), sampler=sampler, num_inference_steps=WORTH + 1, seed=1)
            for engine in (Engine(unet, model.scheduler), Engine(unet, model.scheduler, network=graphs))
        ]
        assert torch.equal(*drawn)
    assert recorder.shapes == [(2, 1, 28, 28)]


def test_few_graphs_are_kept_and_large_batches_are_not_recorded():
    recorder = Recorder()
    graphs = Graphs(network, recorder)
    sizes = range(1, MAX_KEPT + 2)
    for batch in sizes:
        for call in range(WORTH + 1):
            assert torch.equal(graphs(*inputs(batch)), network(*inputs(batch)))
            assert (batch in [shape[0] for shape in recorder.shapes]) == (call + 1 >= WORTH)
    for _ in range(WORTH - 1):  # the first one made room, and is not recorded again at once
        graphs(*inputs(1))
    assert [shape[0] for shape in recorder.shapes] == [*sizes]
    graphs(*inputs(1))
    assert [shape[0] for shape in recorder.shapes] == [*sizes, 1]
    large = MAX_VALUES // 16 + 1
    for _ in range(WORTH + 1):
        graphs(*inputs(large))
    assert large not in [shape[0] for shape in recorder.shapes]


def test_nothing_is_recorded_under_autocast_and_inference_mode_leaves_no_trace():
    recorder = Recorder()
    graphs = Graphs(network, recorder)
    with torch.autocast("cpu", torch.bfloat16):
        for seed in range(WORTH + 1):
            graphs(*inputs(2, seed))
    assert not recorder.shapes
    with torch.inference_mode():
        for seed in range(WORTH + 1):
            graphs(*inputs(2, seed))
    assert recorder.shapes
    assert torch.equal(graphs(*inputs(2, 9)), network(*inputs(2, 9))), "outside of it, too"


def test_a_network_that_cannot_be_recorded_computes_as_before(caplog):
    graphs = Graphs(network, Recorder(fails=True))
    with caplog.at_level(logging.WARNING):
        for seed in range(WORTH + 4):
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
@pytest.mark.parametrize("name", ["mnist", "mnist_labels"])
def test_on_a_gpu_a_model_is_recorded_and_computes_what_it_computed(name, caplog):
    model = checkpoint.load(checkpoint.EMBEDDED.with_name(name))
    engine, plain = model.engine("cuda"), Engine(model.unet.to("cuda"), model.scheduler, "cuda", classes=model.classes)
    for seed in range(WORTH + 3):
        draw = torch.Generator().manual_seed(seed)
        xt, t = torch.randn(2, 1, 28, 28, generator=draw), torch.randint(0, 1000, (2,), generator=draw)
        labels = torch.tensor([3, -1]) if model.classes else None
        assert (engine(xt, t, labels) - plain(xt, t, labels)).abs().max() < 1e-2  # TF32, in two memory layouts
    assert len(engine._network._graphs) == 1
    assert not caplog.messages
