"""A network whose weights no longer change, compiled for the CPU by OpenVINO.

Nothing waits for it: it is converted and compiled in the background, and until then, or wherever something fails,
PyTorch computes. What was converted is kept beside the prepared data, so that later starts read it within milliseconds.
Every figure is float32, and every compiled network is checked against PyTorch's.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ddpm.errors import first_line
from ddpm.files import cache_folder

log = logging.getLogger(__name__)

FORMAT = 2  # raise it when what is converted changes
WORTH_S = 3.0  # about what converting costs: calls of PyTorch that took so long together show that it pays
SLICES = (8, 4, 2, 1)  # images of one request; larger ones leave the cores' caches
TOLERANCE = 1e-3  # of the check, relative to the largest output; rounding alone gives about 1e-5
KEPT = 8  # converted networks on disk
MAX_BYTES = 2**30  # of weights; a larger network would be in memory several times

Key = tuple[int, int]
"""Of a compiled network: images of one request, streams, which is how many requests it computes at a time."""
Plan = list[tuple[slice, Key]]
"""Requests: which images of the batch, and by which network."""


class Request:
    """A request of a compiled network, between arrays that stay: getting at OpenVINO's own takes longer than a copy."""

    def __init__(self, network) -> None:
        openvino = import_openvino()
        (xt, t), out = network.inputs, network.output(0)
        self.xt, self.t = np.zeros(xt.shape, np.float32), np.zeros(t.shape, np.int64)
        self.out = np.zeros(out.shape, np.float32)
        self._request = network.create_infer_request()
        for i, array in enumerate((self.xt, self.t)):
            self._request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
        self._request.set_output_tensor(0, openvino.Tensor(self.out, shared_memory=True))
        self.start, self.wait = self._request.start_async, self._request.wait


Networks = dict[Key, list[Request]]
"""The requests of each compiled network, one a stream."""


def import_openvino():
    """OpenVINO without its telemetry, which would write to the home folder and call a server at every import.

    Raises:
        ImportError: it is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # importing it fails now, and OpenVINO takes the stub it has for that
    import openvino

    return openvino


class Doubled(nn.Module):
    """What `Upsample2D` computes, a convolution of a picture enlarged twofold by repeating its pixels, with 16 products
    a pixel and pair of channels instead of 36: as a transposed convolution of the small picture.

    Wherever it lies, a 3 x 3 kernel meets at most 2 x 2 different pixels. What it makes of one of them is a sum of its
    weights: along each axis w_2, w_1 + w_2, w_0 + w_1, w_0 for the four large pixels that this one reaches.
    """

    def __init__(self, layer: Upsample2D) -> None:
        super().__init__()
        weight = layer.conv.weight.detach()  # (outputs, inputs, 3, 3)
        for axis in (2, 3):
            w0, w1, w2 = weight.unbind(axis)
            weight = torch.stack([w2, w1 + w2, w0 + w1, w0], axis)
        outputs, inputs = weight.shape[:2]
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=layer.conv.bias is not None)
        self.conv.weight = nn.Parameter(weight.transpose(0, 1).contiguous(), requires_grad=False)
        self.conv.bias = layer.conv.bias

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether a layer computes that and nothing else."""
        if not isinstance(layer, Upsample2D) or not layer.interpolate or layer.norm is not None:
            return False
        conv = getattr(layer, "conv", None)
        return isinstance(conv, nn.Conv2d) and (conv.kernel_size, conv.padding) == ((3, 3), (1, 1))

    def forward(self, hidden_states: Tensor, output_size: int | None = None) -> Tensor:
        assert output_size is None, "UNet2DModel halves and doubles"
        return self.conv(hidden_states)


def rewritten(unet: nn.Module) -> nn.Module:
    """The same function with fewer operations; a copy that shares the weights."""
    unet = copy.deepcopy(unet, {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())})
    for name, layer in list(unet.named_modules()):
        if Doubled.fits(layer):
            unet.set_submodule(name, Doubled(layer))
    return unet


class Compiled:
    """A network as a function of x_t and t: PyTorch's at first, and what OpenVINO makes of it once that is there.

    Args:
        unet: a UNet2DModel on the CPU in eval mode; its weights must not change any more.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._pixels = unet.config.in_channels, unet.config.sample_size, unet.config.sample_size
        self._threads = torch.get_num_threads()
        self._model = None  # of OpenVINO, for any batch size
        self._networks: Networks = {}
        self._asked: dict[Key, Future] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._lock = threading.Lock()  # of the requests
        self._publishing = threading.Lock()  # what was given up stays so
        self._torch_s = 0.0
        self._closed = False
        size = sum(p.numel() * p.element_size() for p in unet.parameters())
        self._failed = importlib.util.find_spec("openvino") is None or size > MAX_BYTES

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) float32 and (B,) int64 on the CPU to the network's output."""
        plan = self._plan(len(xt))
        networks = self._networks
        right = xt.dtype == torch.float32 and xt.shape[1:] == self._pixels and t.shape == xt.shape[:1]
        if right and all(key in networks for _, key in plan):
            try:
                with self._lock:
                    return _infer(plan, networks, xt, t)
            except Exception as error:
                self._give_up(error)
        started = time.perf_counter()
        with torch.no_grad():
            output = self._unet(xt, t).sample
        self._torch_s += time.perf_counter() - started
        if self._model or self._torch_s > WORTH_S:
            self._ask(plan)
        return output

    def close(self) -> None:
        """Begin nothing more in the background; PyTorch computes what is not there yet."""
        self._closed = True  # first: a worker that was shut down takes nothing
        self._worker.shutdown(wait=False, cancel_futures=True)

    def prepare(self, *batch_sizes: int, wait: bool = False) -> None:
        """Compile for these batch sizes now, in the background.

        Args:
            wait: return when it is done; or has failed, which was logged.
        """
        asked = [future for size in batch_sizes for future in self._ask(self._plan(size))]
        for future in asked if wait else ():
            future.result()

    def _plan(self, count: int) -> Plan:
        """`count` images cut into requests.

        One image takes all threads. Several are shared among streams, each on threads of its own, which do not wait for
        each other after every layer. A few sizes of request serve any count, since a compiled network has a fixed one.
        """
        streams = 1 << (min(count, self._threads).bit_length() - 1)
        parts, first = [], 0
        for size in SLICES:
            # None but the smallest unless every stream gets one.
            until = count if size == 1 else first + (count - first) // (size * streams) * size * streams
            parts += [(slice(i, i + size), (size, streams)) for i in range(first, until, size)]
            first = until
        return parts

    # ------------------------------------------------------------------------------------------- in the background

    def _ask(self, plan: Plan) -> list[Future]:
        keys = {key for _, key in plan}
        for key in keys:
            if key not in self._asked and not self._failed and not self._closed:
                self._asked[key] = self._worker.submit(self._compile, key)
        return [self._asked[key] for key in keys if key in self._asked]

    def _compile(self, key: Key) -> None:
        if self._failed:
            return
        try:
            if self._model is None:
                self._model, requests = self._load(key)
            else:
                requests = self._requests(self._model, key)
            with self._publishing:
                if not self._failed:
                    self._networks = self._networks | {key: requests}
        except Exception as error:  # whatever OpenVINO raises, and PyTorch's tracer
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        with self._publishing:
            if self._failed:
                return
            self._failed, self._networks, self._model = True, {}, None
        log.warning("OpenVINO cannot compute this network; PyTorch does, slower: %s", first_line(error))

    def _requests(self, model, key: Key) -> list:
        """The requests of one compiled network, which computes what PyTorch does.

        Raises:
            ValueError: it does not.
        """
        images, streams = key
        model = model.clone()
        model.reshape({0: [images, *self._pixels], 1: [images]})
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # on some processors it would take bfloat16
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,  # pinned threads would meet those of other processes on the same cores
        }
        network = import_openvino().Core().compile_model(model, "CPU", options)
        requests = [Request(network) for _ in range(streams)]
        self._check(key, requests)
        return requests

    def _load(self, key: Key) -> tuple:
        """OpenVINO's model, from the cache if it is there and right, and the first network of it."""
        openvino = import_openvino()
        folder = cache_folder() / f"openvino-{self._fingerprint(openvino.get_version())}"
        if folder.exists():
            try:
                model = openvino.Core().read_model(folder / "network.xml")
                requests = self._requests(model, key)
                with contextlib.suppress(OSError):
                    os.utime(folder)
                return model, requests
            except Exception as error:  # damaged; OpenVINO's exceptions have no common base
                log.info("%s is damaged (%s); converting again", folder, first_line(error))
                shutil.rmtree(folder, ignore_errors=True)
        model = self._convert(openvino)
        requests = self._requests(model, key)
        try:
            _keep(openvino, model, folder)
        except Exception as error:
            log.info("the converted network is not kept (%s); the next start converts again", first_line(error))
        return model, requests

    def _check(self, key: Key, requests: list) -> None:
        """Compare with PyTorch, from the first t to the last.

        Raises:
            ValueError: they differ.
        """
        images, _ = key
        count = -(-3 // images) * images
        xt = torch.randn(count, *self._pixels, generator=torch.Generator().manual_seed(0))
        t = torch.linspace(0, self._last_t(), count).round().long()
        with torch.no_grad():
            expected = self._unet(xt, t).sample
        output = _infer([(slice(i, i + images), key) for i in range(0, count, images)], {key: requests}, xt, t)
        difference = float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-3))
        if not difference < TOLERANCE:
            raise ValueError(f"its output differs from PyTorch's by {difference:.1e}")

    def _last_t(self) -> int:
        return (self._unet.config.num_train_timesteps or 1000) - 1  # given where each t has an embedding of its own

    def _convert(self, openvino):
        class Output(nn.Module):
            def __init__(self, unet: nn.Module) -> None:
                super().__init__()
                self.unet = unet

            def forward(self, xt: Tensor, t: Tensor) -> Tensor:
                return self.unet(xt, t).sample

        # For good: warnings' filters belong to the process, and putting them back is not safe beside other threads.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        pixels = self._pixels
        with torch.no_grad():
            return openvino.convert_model(
                Output(rewritten(self._unet)).eval(),
                example_input=(torch.zeros(2, *pixels), torch.tensor([0, self._last_t()])),
                input=[openvino.PartialShape([-1, *pixels]), openvino.PartialShape([-1])],
            )

    def _fingerprint(self, version: str) -> str:
        """Of all that the converted network depends on."""
        config = {k: v for k, v in self._unet.config.items() if not k.startswith("_")}
        about = [FORMAT, version, torch.__version__, config]
        found = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._unet.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().contiguous().numpy().data)
        return found.hexdigest()[:24]


def _infer(plan: Plan, networks: Networks, xt: Tensor, t: Tensor) -> Tensor:
    """Run the requests of a plan, as many at a time as there are streams."""
    xt, t = xt.numpy(), t.numpy()
    output, busy = np.empty(xt.shape, np.float32), deque()
    idle = {key: list(networks[key]) for _, key in plan}

    def finish() -> None:
        request, part, key = busy.popleft()
        request.wait()
        output[part] = request.out
        idle[key].append(request)

    for part, key in plan:
        if len(busy) == key[1]:
            finish()
        request = idle[key].pop()
        request.xt[:], request.t[:] = xt[part], t[part]
        request.start()
        busy.append((request, part, key))
    while busy:
        finish()
    return torch.from_numpy(output)


def _keep(openvino, model, folder: Path) -> None:
    """Put the model into the cache, as a whole, and let the oldest go."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-openvino-", dir=folder.parent))
    try:
        openvino.save_model(model, temporary / "network.xml", compress_to_fp16=False)
        temporary.rename(folder)  # fails where another process was first: it has the same
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # another process does the same
        kept = sorted(folder.parent.glob("openvino-*"), key=lambda path: path.stat().st_mtime)
        stale = [p for p in folder.parent.glob(".tmp-openvino-*") if p.stat().st_mtime < time.time() - 3600]
        for path in [*kept[:-KEPT], *stale]:
            shutil.rmtree(path, ignore_errors=True)
