"""A network whose weights no longer change, compiled for the CPU in the background.

Nobody has to wait for the compiler: PyTorch computes until the compiled network is ready, and again if it fails.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from diffusers import UNet2DModel
from torch import Tensor

from ddpm.classes import is_conditional, width_of
from ddpm.errors import first_line
from ddpm.openvino_backend import Key, Networks, OpenVINO, Plan, compute

log = logging.getLogger(__name__)

WORTH_S = 3.0  # about what conversion takes: once PyTorch has computed for so long, compiling is certain to save time
SIZES = (4, 3, 2, 1)  # images in one request; larger ones are no faster
REQUEST_COST = 0.25  # of a request beside its images, in the time of one image
CLOSE = 1.1  # a size that is compiled for many batches may take so much longer than the best one
TORCH_IMAGES = 16  # that PyTorch computes at once; more are no faster either, and take memory in proportion


class Compiled:
    """A network as a function of x_t and t: PyTorch's at first, and OpenVINO's once that is compiled.

    Args:
        unet: a UNet2DModel on the CPU in eval mode; its weights must no longer change.
        backend: compiles it; default: OpenVINO with as many threads as PyTorch uses now.
        worth_s: seconds that PyTorch may compute before compiling begins by itself; default: WORTH_S.
        alone: PyTorch never computes, since it would do so in another precision. Every batch waits until the network
            is compiled for it, and is refused if that fails.
    """

    def __init__(
        self, unet: UNet2DModel, backend: OpenVINO | None = None, worth_s: float | None = None, alone: bool = False
    ) -> None:
        backend = OpenVINO(unet) if backend is None else backend
        self._unet = unet
        side = unet.config["sample_size"]
        size = (side, side) if isinstance(side, int) else side
        self._shapes = [(unet.config["in_channels"], *size), ()]  # of an image's inputs
        if is_conditional(unet):
            self._shapes.append((width_of(unet),))
        self._threads = backend.threads
        self._worth_s = WORTH_S if worth_s is None else worth_s
        self._backend = backend if backend.available() else None  # None: PyTorch computes everything
        self._networks: Networks = {}
        self._compiling: dict[Key, Future] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._computing = threading.Lock()  # the requests serve one batch at a time
        self._publishing = threading.Lock()  # after `_give_up` no network may be published any more
        self._torch_s = 0.0
        self._closed = False
        self._settled = self._alone = alone
        self._precision, self._why = backend.precision, "the batch is none of its images"

    def __call__(self, xt: Tensor, t: Tensor, *vectors: Tensor) -> Tensor:
        """The network's output.

        Args:
            xt, t: (B, C, H, W) float32 and (B,) int64, on the CPU.
            vectors: of a network that takes class vectors, (B, D) float32.
        Returns:
            (B, C, H, W) float32; with 2 C channels of a network that predicts the variance.
        Raises:
            ValueError: PyTorch would have to compute and must not.
        """
        plan = self._plan(len(xt))
        if self._settled and not self._closed:
            self._wait(plan)
        networks = self._networks
        inputs = (xt, t, *vectors)
        fits = xt.dtype == torch.float32 and [tuple(x.shape) for x in inputs] == [(len(xt), *s) for s in self._shapes]
        if fits and all(key in networks for _, key in plan):
            try:
                with self._computing:
                    return compute(plan, networks, *inputs)
            except Exception as error:  # OpenVINO's exceptions have no common base
                self._give_up(error)
        if self._alone:
            raise ValueError(f"OpenVINO cannot compute this network in {self._precision}: {self._why}")
        started = time.perf_counter()
        with torch.no_grad():
            whole = any(each.shape[:1] != xt.shape[:1] for each in inputs)  # not one value for each image
            parts = [inputs] if whole else zip(*(each.split(TORCH_IMAGES) for each in inputs), strict=True)
            output = torch.cat([self._unet(*part).sample for part in parts])
        self._torch_s += time.perf_counter() - started
        if self._torch_s > self._worth_s or (self._backend and self._backend.converted):
            self._compile(plan)
        return output

    def prepare(self, *batch_sizes: int, wait: bool = False) -> None:
        """Compile the network for batches of these sizes, in the background.

        Args:
            wait: return when it is compiled, or when compiling has failed, which is logged.
        """
        for size in batch_sizes:
            self._compile(self._plan(size))
        for size in batch_sizes if wait else ():
            self._wait(self._plan(size))

    def settle(self) -> None:
        """From now on, a batch of a new size waits until the network is compiled for it.

        Results then depend on the batch alone. Otherwise they depend on the moment at which OpenVINO takes over from
        PyTorch, whose results differ in the seventh digit.
        """
        self._settled = True

    def close(self) -> None:
        """Start no more work in the background; PyTorch computes what is not compiled yet."""
        self._closed = True  # before the shutdown, after which the worker refuses work
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _plan(self, count: int) -> Plan:
        """A batch of `count` images, cut into requests of one size, of which the last may have fewer images.

        A single image takes all threads. Several images are shared among streams, each with its own threads, which need
        not wait for each other after every layer. A compiled network has a fixed size and takes 60 MB of memory, so the
        largest size is taken that is about as fast as the fastest. With two threads, five networks serve all batches.
        """
        streams = 1 << (min(count, self._threads).bit_length() - 1)

        def cost(size: int) -> float:
            requests = math.ceil(count / size)
            return math.ceil(requests / streams) * (size + REQUEST_COST)

        best = min(map(cost, SIZES))
        size = next(size for size in SIZES if cost(size) <= CLOSE * best)
        return [(slice(i, min(i + size, count)), (size, streams)) for i in range(0, count, size)]

    def _wait(self, plan: Plan) -> None:
        """Return when what a plan needs is compiled, or when compiling has failed, which is logged."""
        for future in self._compile(plan):
            future.result()

    def _compile(self, plan: Plan) -> list[Future]:
        """Compile what a plan needs, in the background."""
        keys = {key for _, key in plan}
        for key in keys:
            if key not in self._compiling and self._backend and not self._closed:
                self._compiling[key] = self._worker.submit(self._compile_now, key)
        return [self._compiling[key] for key in keys if key in self._compiling]

    def _compile_now(self, key: Key) -> None:
        """Compile one network and publish it. Runs in the worker's thread."""
        backend = self._backend
        if backend is None:
            return
        try:
            requests = backend.requests(key)
            with self._publishing:
                if self._backend:
                    self._networks = self._networks | {key: requests}
        except Exception as error:  # whatever OpenVINO and PyTorch's tracer raise
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Leave everything to PyTorch from now on."""
        with self._publishing:
            if self._backend is None:
                return
            self._backend, self._networks, self._why = None, {}, first_line(error)
        if not self._alone:
            log.warning("OpenVINO cannot compute this network; PyTorch does, slower: %s", self._why)
