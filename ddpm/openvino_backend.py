"""Compiles a network for the CPU with OpenVINO. This is the only module that knows OpenVINO.

A converted network is kept in the cache folder, so that later starts read it within milliseconds. All arithmetic is
float32, unless bfloat16 is asked for, and the output of every compiled network is compared with PyTorch's before it is
used.
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
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from diffusers import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ddpm.classes import is_conditional, width_of
from ddpm.errors import first_line
from ddpm.files import cache_folder
from ddpm.names import Precision

log = logging.getLogger(__name__)

FORMAT = 2  # of the converted networks; raise it when the conversion changes
# Largest difference from PyTorch, relative to the largest output. Rounding alone gives about 1e-5 in float32 and
# 0.01 to 0.1 in bfloat16.
TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.2}
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
KEPT = 8  # converted networks that are kept on disk
MAX_BYTES = 2**30  # of weights; conversion holds them in memory several times
_converting = threading.Lock()  # PyTorch's tracer fails if two threads trace networks at the same time

Key = tuple[int, int]
"""What a compiled network is compiled for: the images of one request, and the number of streams, which is how many
requests it computes at a time."""

Plan = list[tuple[slice, Key]]
"""A batch cut into requests: which images of the batch each one takes, at most as many as the compiled network that
computes it is for."""


def import_openvino():
    """OpenVINO without its telemetry, which would write to the home folder and contact a server at every import.

    Raises:
        ImportError: it is not installed.
    """
    if "openvino" not in sys.modules:
        # None makes the import of this name fail, and OpenVINO has a stub for that case.
        sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - documented in `import`
    import openvino

    return openvino


def computes_in_bfloat16() -> bool:
    """Whether OpenVINO is installed and this processor has instructions for bfloat16."""
    if importlib.util.find_spec("openvino") is None:
        return False
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Request:
    """A request of a compiled network.

    Its arrays are allocated once, since accessing OpenVINO's own tensors takes longer than copying a batch.

    Attributes:
        inputs: x_t (B, C, H, W) float32, t (B,) int64 and, of a network that takes class vectors, these (B, D) float32;
            to be filled before `start`.
        out: the output, (B, C, H, W) float32; valid after `wait`.
    """

    def __init__(self, network) -> None:
        openvino = import_openvino()
        self.inputs = [np.zeros(x.shape, np.int64 if i == 1 else np.float32) for i, x in enumerate(network.inputs)]
        self.out = np.zeros(network.output(0).shape, np.float32)
        self._request = network.create_infer_request()
        for i, array in enumerate(self.inputs):
            self._request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
        self._request.set_output_tensor(0, openvino.Tensor(self.out, shared_memory=True))

    def start(self) -> None:
        """Begin to compute."""
        self._request.start_async()

    def wait(self) -> None:
        """Return when the output is there."""
        self._request.wait()


Networks = dict[Key, Sequence[Request]]
"""The requests of each compiled network, one per stream."""


def compute(plan: Plan, networks: Networks, *inputs: Tensor) -> Tensor:
    """The network's output for a batch, with as many requests at a time as there are streams.

    Args:
        inputs: x_t (B, C, H, W) float32, t (B,) int64 and perhaps class vectors (B, D) float32, on the CPU.
    Returns:
        (B, C, H, W) float32; with 2 C channels of a network that predicts the variance.
    """
    arrays = [x.numpy() for x in inputs]
    shape = networks[plan[0][1]][0].out.shape[1:]  # of an image's output, which may have more channels than x_t
    output, busy = np.empty((len(arrays[0]), *shape), np.float32), deque()
    idle = {key: list(networks[key]) for _, key in plan}

    def finish() -> None:
        request, part, key = busy.popleft()
        request.wait()
        output[part] = request.out[: part.stop - part.start]
        idle[key].append(request)

    for part, key in plan:
        if len(busy) == key[1]:
            finish()
        request = idle[key].pop()
        for to_fill, array in zip(request.inputs, arrays, strict=True):
            to_fill[: part.stop - part.start] = array[part]
        request.start()
        busy.append((request, part, key))
    while busy:
        finish()
    return torch.from_numpy(output)


class Doubled(nn.Module):
    """Computes what `Upsample2D` does, with 16 instead of 36 products per pixel and pair of channels.

    `Upsample2D` repeats every pixel twofold along both axes and convolves the result with a 3 x 3 kernel. Wherever that
    kernel lies, it covers at most 2 x 2 different pixels, so the same function is a transposed convolution of the small
    image. Its weights are sums of the kernel's: along each axis w_2, w_1 + w_2, w_0 + w_1, w_0 for the four large
    pixels that a small pixel reaches.
    """

    def __init__(self, layer: Upsample2D) -> None:
        super().__init__()
        conv = layer.conv
        assert isinstance(conv, nn.Conv2d)
        weight = conv.weight.detach()  # (outputs, inputs, 3, 3)
        for axis in (2, 3):
            w0, w1, w2 = weight.unbind(axis)
            weight = torch.stack([w2, w1 + w2, w0 + w1, w0], axis)
        outputs, inputs = weight.shape[:2]
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=conv.bias is not None)
        self.conv.weight = nn.Parameter(weight.transpose(0, 1).contiguous(), requires_grad=False)
        self.conv.bias = conv.bias

    @staticmethod
    def fits(layer: nn.Module) -> TypeGuard[Upsample2D]:
        """Whether a layer computes exactly this."""
        if not isinstance(layer, Upsample2D) or not layer.interpolate or layer.norm is not None:
            return False
        conv = getattr(layer, "conv", None)
        return isinstance(conv, nn.Conv2d) and (conv.kernel_size, conv.padding) == ((3, 3), (1, 1))

    def forward(self, hidden_states: Tensor, output_size: int | None = None) -> Tensor:
        assert output_size is None, "UNet2DModel halves and doubles"
        return self.conv(hidden_states)


def rewritten(unet: nn.Module) -> nn.Module:
    """A copy of a network that computes the same function with fewer operations; it shares the weights."""
    unet = copy.deepcopy(unet, {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())})
    for name, layer in list(unet.named_modules()):
        if Doubled.fits(layer):
            unet.set_submodule(name, Doubled(layer))
    return unet


class _Output(nn.Module):
    """The network as a function from tensors to a tensor, which is what OpenVINO converts."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        return self.unet(xt, t).sample


class _OutputWithVectors(_Output):
    """The same for a network that takes class vectors."""

    def forward(self, xt: Tensor, t: Tensor, vectors: Tensor) -> Tensor:
        return self.unet(xt, t, vectors).sample


class OpenVINO:
    """Compiles one network for requests of any size.

    Args:
        unet: a UNet2DModel on the CPU in eval mode, whose weights no longer change.
        threads: how many threads compute; None: as many as PyTorch uses now.
        precision: of the layers; x_t, t and the output are float32 in any case.
    """

    def __init__(self, unet: UNet2DModel, threads: int | None = None, precision: Precision = "float32") -> None:
        self.threads = torch.get_num_threads() if threads is None else threads
        self.precision: Precision = precision
        self._unet = unet
        side = unet.config["sample_size"]
        size = (side, side) if isinstance(side, int) else side
        self._shapes = [[unet.config["in_channels"], *size], []]  # of an image's inputs
        if is_conditional(unet):
            self._shapes.append([width_of(unet)])
        self._model = None  # OpenVINO's, for any number of images

    @property
    def converted(self) -> bool:
        """Whether the network is converted, so that it is quick to compile it for another size."""
        return self._model is not None

    def available(self) -> bool:
        """Whether OpenVINO is installed and the network is small enough."""
        size = sum(p.numel() * p.element_size() for p in self._unet.parameters())
        return importlib.util.find_spec("openvino") is not None and size <= MAX_BYTES

    def requests(self, key: Key) -> Sequence[Request]:
        """The requests of the network compiled for `key`.

        The converted network comes from the cache, if it is there and intact; otherwise it is converted and kept.

        Raises:
            Exception: whatever OpenVINO and PyTorch's tracer raise; they have no common base.
            ValueError: the compiled network does not compute what PyTorch computes.
        """
        if self._model is not None:
            return self._checked(self._model, key)
        openvino = import_openvino()
        folder = cache_folder() / f"openvino-{self._fingerprint(openvino.get_version())}"
        if folder.exists():
            try:
                model = openvino.Core().read_model(folder / "network.xml")
                requests = self._checked(model, key)
                with contextlib.suppress(OSError):
                    os.utime(folder)
                self._model = model
                return requests
            except Exception as error:  # OpenVINO's exceptions have no common base
                if self.precision != "float32":  # rounding may be to blame, and the page starts from this folder
                    raise
                log.info("%s is damaged (%s); converting again", folder, first_line(error))
                shutil.rmtree(folder, ignore_errors=True)
        model = self.convert()
        requests = self._checked(model, key)
        try:
            _keep(model, folder)
        except Exception as error:
            log.info("the converted network is not kept (%s); the next start converts again", first_line(error))
        self._model = model
        return requests

    def convert(self):
        """The network as a model of OpenVINO, for any number of images."""
        openvino = import_openvino()
        # The filter stays: filters belong to the process, and removing one is not safe beside other threads.
        warnings.filterwarnings(
            "ignore",
            category=torch.jit.TracerWarning,  # pyright: ignore  torch leaves it out of __all__
        )
        kind = _OutputWithVectors if len(self._shapes) == 3 else _Output
        with _converting, torch.no_grad():
            return openvino.convert_model(
                kind(rewritten(self._unet)).eval(),
                example_input=self._example(2),
                input=[openvino.PartialShape([-1, *shape]) for shape in self._shapes],
            )

    def compile(self, model, key: Key) -> Sequence[Request]:
        """The requests of `model` compiled for `key`, one per stream."""
        images, streams = key
        model = model.clone()
        model.reshape({number: [images, *shape] for number, shape in enumerate(self._shapes)})
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],  # on some processors the default is bfloat16
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # other processes may pin their threads to the same cores
        }
        network = import_openvino().Core().compile_model(model, "CPU", options)
        return [Request(network) for _ in range(streams)]

    def _checked(self, model, key: Key) -> Sequence[Request]:
        """The requests of `model` compiled for `key`, after a comparison with PyTorch at t from 0 to T - 1.

        Raises:
            ValueError: the outputs differ.
        """
        requests = self.compile(model, key)
        images, _ = key
        count = -(-3 // images) * images
        inputs = self._example(count)
        with torch.no_grad():
            expected = self._unet(*inputs).sample
        output = compute([(slice(i, i + images), key) for i in range(0, count, images)], {key: requests}, *inputs)
        difference = float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-3))
        if not difference < TOLERANCES[self.precision]:
            raise ValueError(f"its output differs from PyTorch's by {difference:.1e}")
        return requests

    def _example(self, count: int) -> tuple[Tensor, ...]:
        """Inputs for `count` images: noise at t from 0 to T - 1, and class vectors if the network takes them."""
        draw = torch.Generator().manual_seed(0)
        t = torch.linspace(0, self._last_t(), count).round().long()
        xt, *vectors = (torch.randn(count, *self._shapes[i], generator=draw) for i in range(0, len(self._shapes), 2))
        return (xt, t, *vectors)

    def _last_t(self) -> int:
        """T - 1, 0-based. The network's configuration has T only if each timestep has its own learned embedding."""
        return (self._unet.config.get("num_train_timesteps") or 1000) - 1

    def _fingerprint(self, version: str) -> str:
        """A digest of everything that the converted network depends on."""
        config = {k: v for k, v in self._unet.config.items() if not k.startswith("_")}
        about = [FORMAT, version, torch.__version__, config]
        found = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._unet.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().contiguous().numpy().data)
        return found.hexdigest()[:24]


def _keep(model, folder: Path) -> None:
    """Save a converted network into the cache, by one rename, and delete the oldest ones."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-openvino-", dir=folder.parent))
    try:
        import_openvino().save_model(model, temporary / "network.xml", compress_to_fp16=False)
        temporary.rename(folder)  # fails if another process was first: it saved the same network
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # another process deletes the same folders
        kept = sorted(folder.parent.glob("openvino-*"), key=lambda path: path.stat().st_mtime)
        stale = [p for p in folder.parent.glob(".tmp-openvino-*") if p.stat().st_mtime < time.time() - 3600]
        for path in [*kept[:-KEPT], *stale]:
            shutil.rmtree(path, ignore_errors=True)
