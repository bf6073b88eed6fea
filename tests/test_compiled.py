"""The network as OpenVINO computes it: equal to PyTorch's, never in its way, and silent on the network."""

import importlib.util
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.models.upsampling import Upsample2D

from ddpm import checkpoint, openvino_backend
from ddpm.classes import accepting_vectors, separated
from ddpm.compiled import Compiled
from ddpm.engine import Engine
from ddpm.openvino_backend import Doubled, OpenVINO, rewritten
from ddpm.unet import build_unet
from tests import labelled

# Not by importing it: that would wake its telemetry.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
ROOT = Path(__file__).parents[1]


def network(channels=1, resolution=8, seed=0):
    torch.manual_seed(seed)
    unet = (
        build_unet(resolution, channels, (8, 16), norm_num_groups=4, attention_levels=(1,)).eval().requires_grad_(False)
    )
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    return unet


@pytest.fixture(scope="module")
def unet():
    return network()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty one; the other tests share that of the session, where one conversion serves them all."""
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ask(unet, count, seed=1):
    """A batch in which every image has a t of its own."""
    draw = torch.Generator().manual_seed(seed)
    xt = torch.randn(count, unet.config.in_channels, *[unet.config.sample_size] * 2, generator=draw)
    return xt, torch.randint(0, 1000, (count,), generator=draw)


def expected(unet, xt, t):
    with torch.no_grad():
        return unet(xt, t).sample


def is_compiled(fast, unet, count):
    """Whether a batch of so many images is computed without PyTorch's network."""
    calls = []
    hook = unet.register_forward_pre_hook(lambda *args: calls.append(args))
    try:
        fast(*ask(unet, count))
    finally:
        hook.remove()
    return not calls


class Changed(OpenVINO):
    """OpenVINO with requests that a test changes."""

    def __init__(self, unet, change):
        super().__init__(unet)
        self.change = change

    def compile(self, model, key):
        requests = super().compile(model, key)
        for request in requests:
            self.change(request)
        return requests


def before_start(request, act):
    """Have a request do something else first."""
    start = request.start
    request.start = lambda: (act(request), start())


def on_fire(*args):
    raise RuntimeError("the chip is on fire\nat length")


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "threads"), [(1, 1), (1, 3), (3, 2)])
def test_equals_pytorch_at_any_batch_size(channels, threads):
    unet = network(channels)
    fast = Compiled(unet, OpenVINO(unet, threads))
    for count in (1, 2, 13, 64):
        fast.prepare(count, wait=True)
        assert is_compiled(fast, unet, count)
        xt, t = ask(unet, count)
        torch.testing.assert_close(fast(xt, t), expected(unet, xt, t), rtol=0, atol=1e-5)
    # Neither memory layout nor who asks matters.
    xt, t = ask(unet, 13)
    strided = xt.contiguous(memory_format=torch.channels_last)
    answers = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: fast(strided, t)})) for i in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for answer in answers.values():
        torch.testing.assert_close(answer, expected(unet, xt, t), rtol=0, atol=1e-5)
    assert len(answers) == 3


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_class_vectors_are_a_third_input_of_the_same_network(threads):
    whole = labelled.network(attention_levels=(1,))
    unet, classes = separated(whole, labelled.NAMES)
    taking = accepting_vectors(unet)
    fast = Compiled(taking, OpenVINO(taking, threads))
    engine = Engine(unet, DDPMScheduler(), network=fast, classes=classes)
    for count in (1, 2, 3, 8, 17):
        engine.prepare(count, wait=True)
        xt, t = ask(unet, count)
        labels = torch.arange(count) % 4 - 1  # "no label" first
        calls = []
        hook = taking.register_forward_pre_hook(lambda *args, calls=calls: calls.append(args))
        answer, without = engine(xt, t, labels), engine(xt, t)
        hook.remove()
        assert not calls, "PyTorch computed nothing"
        with torch.no_grad():
            told = whole(xt, t, labels % 4).sample  # its last vector is "no label"
        torch.testing.assert_close(answer, told, rtol=0, atol=1e-5)
        torch.testing.assert_close(without, expected(unet, xt, t), rtol=0, atol=1e-5)
    assert (answer[1:] - without[1:]).abs().max() > 0.01, "labels matter"


@pytest.mark.slow
def test_once_it_is_settled_no_result_depends_on_how_fast_the_compiler_is(unet):
    class Slow(OpenVINO):
        def compile(self, model, key):
            time.sleep(0.2)
            return super().compile(model, key)

    engine = Engine(unet, DDPMScheduler(), network=Compiled(unet, Slow(unet, 1)))
    assert not is_compiled(engine, unet, 3), "nobody waits for the compiler otherwise"
    engine.settle(8)
    for count in (8, 3, 21):  # of which only the first was named
        first = engine(*ask(unet, count))
        assert is_compiled(engine, unet, count)
        assert torch.equal(first, engine(*ask(unet, count))), "the first answer came from the same network"


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_every_batch_is_cut_into_requests_of_one_size(unet, threads):
    fast = Compiled(unet, OpenVINO(unet, threads))
    for count in range(1, 130):
        plan = fast._plan(count)
        covered = [i for part, _ in plan for i in range(part.start, part.stop)]
        assert covered == list(range(count))
        ((size, streams),) = {key for _, key in plan}
        assert streams <= min(count, threads)
        assert all(0 < part.stop - part.start <= size for part, _ in plan)
        rounds = -(-len(plan) // streams)
        assert rounds * size <= 1.25 * -(-count // streams) + 1.5, "the streams have about as much to do"
        assert size == 4 or count % (4 * streams), "full requests of the largest size where they come out even"
    if threads == 2:
        of_the_page = {key for count in (1, 6, 8, 16, 40, 59, 80) for _, key in fast._plan(count)}
        assert of_the_page == {(1, 1), (3, 2), (4, 2)}, "each takes 60 MB"
        assert len({key for count in range(1, 130) for _, key in fast._plan(count)}) <= 5


def test_a_request_that_is_not_full_is_computed_like_any_other(unet):
    fast = Compiled(unet, OpenVINO(unet, 2))
    for count in (7, 5, 3, 11):
        assert any(part.stop - part.start < key[0] for part, key in fast._plan(count)), "else this tests nothing"
        fast.prepare(count, wait=True)
        assert is_compiled(fast, unet, count)
        xt, t = ask(unet, count)
        torch.testing.assert_close(fast(xt, t), expected(unet, xt, t), rtol=0, atol=1e-5)


@pytest.mark.parametrize("conv", [{}, {"bias": False}])
def test_doubling_and_its_convolution_are_one_transposed_convolution(conv):
    torch.manual_seed(0)
    layer = Upsample2D(3, use_conv=True, out_channels=5, **conv)
    x = torch.randn(2, 3, 6, 4)
    with torch.no_grad():
        torch.testing.assert_close(Doubled(layer)(x), layer(x), rtol=0, atol=2e-6)
    others = [
        Upsample2D(3),
        Upsample2D(3, use_conv_transpose=True),
        Upsample2D(3, use_conv=True, kernel_size=1, padding=0),
    ]
    assert [Doubled.fits(other) for other in [layer, *others]] == [True, False, False, False]


def test_a_rewritten_network_is_the_same_function_and_leaves_the_old_one_alone(unet):
    before = {name: type(layer) for name, layer in unet.named_modules()}
    new = rewritten(unet)
    assert any(isinstance(layer, Doubled) for layer in new.modules())
    xt, t = ask(unet, 3)
    torch.testing.assert_close(expected(new, xt, t), expected(unet, xt, t), rtol=0, atol=1e-5)
    assert {name: type(layer) for name, layer in unet.named_modules()} == before
    assert new.conv_in.weight is unet.conv_in.weight, "held in memory twice"


def test_a_network_that_forgets_t_is_found_out_whatever_the_batch(unet, cache):
    """As one traced with a fixed t would."""
    forgetful = Changed(unet, lambda request: before_start(request, lambda r: r.t.fill(0)))
    fast = Compiled(unet, forgetful)
    fast.prepare(1, wait=True)
    assert not is_compiled(fast, unet, 1)


def test_what_was_given_up_while_more_was_compiled_stays_so(unet):
    """While the network for 8 images is compiled, the one for a single image fails."""
    made = []

    def fail_from_the_second_size_on(request):
        made.append(request)
        if len(made) > 1:
            made[0].start = on_fire
            fast(*ask(unet, 1))

    fast = Compiled(unet, Changed(unet, fail_from_the_second_size_on))
    fast.prepare(1, wait=True)
    assert is_compiled(fast, unet, 1)
    fast.prepare(8, wait=True)
    assert len(made) > 1
    assert not is_compiled(fast, unet, 1)
    assert not is_compiled(fast, unet, 8)


def test_what_is_no_batch_of_its_images_goes_to_pytorch(unet):
    fast = Compiled(unet)
    fast.prepare(2, wait=True)
    xt, t = ask(unet, 2)
    assert fast(xt.double().float(), t).shape == xt.shape
    with pytest.raises(RuntimeError):
        fast(xt[:, :, :6], t[:1].expand(3))
    assert is_compiled(fast, unet, 2), "one wrong input costs everybody the fast way"


def test_after_its_end_nothing_is_begun_and_pytorch_computes(unet):
    fast = Compiled(unet)
    fast.close()
    fast.prepare(2, wait=True)
    xt, t = ask(unet, 2)
    assert torch.equal(fast(xt, t), expected(unet, xt, t))
    assert not is_compiled(fast, unet, 2)


def test_bfloat16_is_near_pytorch_and_nothing_stands_in_for_it(unet):
    exact, coarse = Compiled(unet), Compiled(unet, OpenVINO(unet, precision="bfloat16"), alone=True)
    exact.prepare(3, wait=True)
    inputs = ask(unet, 3)
    first = coarse(*inputs)
    assert is_compiled(coarse, unet, 3)
    assert torch.equal(first, coarse(*inputs)), "the first call waited until it was ready"
    difference = float((first - exact(*inputs)).abs().max() / expected(unet, *inputs).abs().max())
    assert difference < 0.2
    if openvino_backend.computes_in_bfloat16():
        assert difference > 1e-4, "it is float32"
    broken = Compiled(unet, Changed(unet, lambda request: before_start(request, on_fire)), alone=True)
    with pytest.raises(ValueError, match=r"cannot compute this network in float32: the chip is on fire$"):
        broken(*inputs)


@pytest.mark.parametrize(
    ("device", "capable", "why"),
    [("cpu", False, "AVX-512 BF16 or AMX"), ("meta", True, "and meta would compute; float32 is possible")],
)
def test_bfloat16_is_refused_where_nothing_computes_in_it(monkeypatch, device, capable, why):
    monkeypatch.setattr(checkpoint, "computes_in_bfloat16", lambda: capable)
    with pytest.raises(ValueError, match=f"--precision bfloat16: a CPU with .*{why}"):
        checkpoint.load(checkpoint.EMBEDDED).engine(device, "bfloat16")


def test_an_embedding_for_each_of_few_timesteps(cache):
    torch.manual_seed(0)
    options = {"time_embedding_type": "learned", "num_train_timesteps": 40, "norm_num_groups": 4}
    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(8, 1, 1, layers_per_block=1, **options, **blocks).eval().requires_grad_(False)
    fast = Compiled(unet, OpenVINO(unet, threads=1))  # so that four images are one request
    fast.prepare(4, wait=True)
    xt, t = ask(unet, 4)[0], torch.tensor([0, 1, 38, 39])
    hook = unet.register_forward_pre_hook(lambda *args: pytest.fail("PyTorch computed"))
    answer = fast(xt, t)
    hook.remove()
    torch.testing.assert_close(answer, expected(unet, xt, t), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_engine_is_the_same_function_with_it(unet, prediction_type):
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    fast = Engine(unet, scheduler, network=Compiled(unet))
    fast.prepare(5, wait=True)
    xt, t = ask(unet, 5)
    torch.testing.assert_close(fast(xt, t), Engine(unet, scheduler)(xt, t), rtol=0, atol=2e-5)


class Slow(OpenVINO):
    """Compiles nothing before it may, and notes what it is asked for."""

    def __init__(self, unet):
        super().__init__(unet)
        self.keys, self.begun, self.may_go = [], threading.Event(), threading.Event()

    def requests(self, key):
        self.keys.append(key)
        self.begun.set()
        assert self.may_go.wait(60)
        return super().requests(key)


def test_nothing_waits_for_it(unet):
    """While it is made, PyTorch answers; that begins by itself where calls have taken long."""
    xt, t = ask(unet, 2)
    patient, slow = Slow(unet), Slow(unet)
    fast = Compiled(unet, patient, worth_s=60)
    assert torch.equal(fast(xt, t), expected(unet, xt, t))
    patient.may_go.set()
    fast.prepare(1, wait=True)  # sizes are compiled one after another: one begun before would be noted before
    assert [images for images, _ in patient.keys] == [1], "converted for the sake of one call"
    fast = Compiled(unet, slow, worth_s=0)
    assert torch.equal(fast(xt, t), expected(unet, xt, t))
    assert slow.begun.wait(60)
    assert torch.equal(fast(xt, t), expected(unet, xt, t)), "it was waited for"
    slow.may_go.set()
    fast.prepare(2, wait=True)
    assert is_compiled(fast, unet, 2)


class Broken(OpenVINO):
    """Fails at one step."""

    def __init__(self, unet, step):
        super().__init__(unet)
        self.step, self.made = step, []

    def convert(self):
        return on_fire() if self.step == "convert" else super().convert()

    def compile(self, model, key):
        if self.step == "compile":
            on_fire()
        requests = super().compile(model, key)
        self.made += requests
        if self.step == "wrong":
            for request in requests:
                self.add_to_output(request)
        return requests

    @staticmethod
    def add_to_output(request):
        wait = request.wait

        def wrong():
            wait()
            request.out += 0.1

        request.wait = wrong


@pytest.mark.slow
@pytest.mark.parametrize("why", ["not installed", "convert", "compile", "infer", "wrong"])
def test_pytorch_computes_where_it_fails(unet, tmp_path, monkeypatch, caplog, why):
    if why in ("convert", "compile", "wrong"):
        monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    if why == "not installed":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    backend = Broken(unet, why)
    fast = Compiled(unet, backend)
    with caplog.at_level(logging.WARNING):
        fast.prepare(1, 3, wait=True)
        assert bool(backend.made) == (why in ("infer", "wrong"))
        if why == "infer":
            for request in backend.made:
                request.start = on_fire
        for _ in range(2):
            xt, t = ask(unet, 3)
            assert torch.equal(fast(xt, t), expected(unet, xt, t))
    assert len(caplog.messages) == (why != "not installed")
    assert "\n" not in "".join(caplog.messages)


class Counting(OpenVINO):
    """Notes when it converts."""

    def __init__(self, unet):
        super().__init__(unet)
        self.conversions = 0

    def convert(self):
        self.conversions += 1
        return super().convert()


@pytest.mark.long
def test_a_converted_network_is_kept_for_the_next_start(unet, cache):
    Compiled(unet).prepare(1, wait=True)
    (folder,) = cache.iterdir()

    def conversions_of_a_start(unet):
        backend = Counting(unet)
        fast = Compiled(unet, backend)
        fast.prepare(1, wait=True)
        xt, t = ask(unet, 1)
        torch.testing.assert_close(fast(xt, t), expected(unet, xt, t), rtol=0, atol=1e-5)
        assert is_compiled(fast, unet, 1)
        return backend.conversions

    assert not conversions_of_a_start(unet)
    # Half a file, and one that can be read but holds other numbers.
    weights = folder / "network.bin"
    for damage in (
        lambda: weights.write_bytes(weights.read_bytes()[:1000]),
        lambda: weights.write_bytes(weights.read_bytes()[::-1]),
    ):
        damage()
        assert conversions_of_a_start(unet), "computed with damaged files"
        assert not conversions_of_a_start(unet), "not mended"
    # Other weights are another network; and no more than KEPT stay.
    for i in range(openvino_backend.KEPT):
        (cache / f"openvino-{i}").mkdir()
    assert conversions_of_a_start(network(seed=1))
    assert len(list(cache.iterdir())) == openvino_backend.KEPT


def test_a_folder_that_cannot_be_written_costs_only_the_next_conversion(unet, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "file" / "cache"))
    fast = Compiled(unet)
    fast.prepare(1, wait=True)
    assert is_compiled(fast, unet, 1)


START = """
import sys, torch
from tests.test_compiled import *
attempts = []
sys.addaudithook(lambda event, args: attempts.append((event, args)) if event in ("socket.connect", "socket.getaddrinfo") else None)
unet = network()
fast = Compiled(unet)
fast.prepare(1, 8, wait=True)
xt, t = ask(unet, 8)
assert is_compiled(fast, unet, 8)
torch.testing.assert_close(fast(xt, t), expected(unet, xt, t), rtol=0, atol=1e-5)
assert not attempts, attempts
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
"""


@pytest.mark.long
def test_processes_at_once_and_no_telemetry(tmp_path):
    """Two fresh processes convert the same network into one cache; none calls home or leaves a file there."""
    (tmp_path / "home").mkdir()
    environment = os.environ | {
        "HOME": str(tmp_path / "home"),
        "DDPM_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("XDG_CACHE_HOME", None)
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", START], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    deadline = time.monotonic() + 240
    try:
        for process in running:
            _, error = process.communicate(timeout=max(1, deadline - time.monotonic()))
            assert process.returncode == 0, error
    finally:
        for process in running:
            process.kill()
    assert len(list((tmp_path / "cache").glob("*/*"))) == 2  # one network, and nothing half written
    assert not list((tmp_path / "home").glob("intel*"))
