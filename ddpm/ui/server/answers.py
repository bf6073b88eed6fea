"""What the public endpoints compute (`ddpm.ui.api` describes them).

t is 1-based here, as in the paper, and 0-based in `ddpm.schedule`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ddpm.ui.server.from_picture import FillRequest
from ddpm.ui.server.pictures import pixels_to_tensor, to_tensor
from ddpm.ui.server.requests import (
    MAX_SEED,
    NOISE_LIMIT,
    InputError,
    PictureRequest,
    SampleRequest,
    check_array,
    check_whole,
    label_named,
)
from ddpm.ui.server.service import Service

Answer = dict[str, Any]
InVain = Callable[[], bool]
"""Whether nobody waits for an answer any more."""


class Endpoints:
    """What the endpoints compute; each method is one of them. All arguments may be anything that JSON can hold.

    Args, in each method:
        in_vain: says whether nobody waits for the answer any more; long work then ends.
    Raises, in each method:
        InputError: an argument is out of range; the error states the range.
        StoppedError: nobody waits for the answer any more, or the server ends.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._schedule = service, service.checkpoint.schedule
        self._shape = service.readings.shape
        self._rows_shape = self._shape[:2] if self._shape[2] == 1 else self._shape

    def q_sample(self, t: object, x0: object, seed: object, in_vain: InVain) -> Answer:
        """x_t of Eq. 4, for noise of a torch generator with this seed."""
        at, clean = self._timestep(t), pixels_to_tensor(self._pixels(x0), self._shape)
        generator = torch.Generator().manual_seed(check_whole("seed", seed, 0, MAX_SEED))
        eps = torch.randn(clean.shape, generator=generator)
        xt = self._schedule.q_sample(clean, eps, at)
        return {"xt": self._rows(xt), "eps": self._rows(eps), "alpha_bar": self._schedule.alpha_bar[at].item()}

    def predict_noise(self, xt: object, t: object, in_vain: InVain) -> Answer:
        """eps_theta(x_t, t), and the x_0 that follows from it by Eq. 15."""
        at = self._timestep(t)
        x = to_tensor(check_array("xt", xt, self._rows_shape, -NOISE_LIMIT, NOISE_LIMIT), self._shape)
        eps_hat = self._service.readings.eps_hat(x, at)
        return {"eps_hat": self._rows(eps_hat), "x0_hat": self._rows(self._schedule.predict_x0(x, eps_hat, at))}

    def sample(self, in_vain: InVain, **fields: object) -> Answer:
        """Pictures drawn from noise; the fields are those of `SampleRequest.check`, but `label` is a name."""
        classes = self._service.checkpoint.classes
        fields["label"] = label_named(fields.get("label"), classes)
        request = SampleRequest.check(fields, self._service.num_steps, self._service.max_images, classes)
        return self._drawn(request, in_vain)

    def inpaint(self, in_vain: InVain, x0: object, mask: object, jumps: object, **fields: object) -> Answer:
        """A picture filled in where the mask is 1; the other fields are those of `sample`."""
        service, classes = self._service, self._service.checkpoint.classes
        pixels = self._pixels(x0)
        erased = check_array("mask", mask, self._shape[:2], 0, 1, whole=True).astype(np.uint8).tobytes()
        fields["label"] = label_named(fields.get("label"), classes)
        limits = (service.num_steps, service.max_images, self._shape, classes)
        return self._drawn(FillRequest.of(pixels, erased, jumps, fields, *limits), in_vain)

    def _drawn(self, request: SampleRequest | FillRequest, in_vain: InVain) -> Answer:
        """The pictures of a request, drawn now unless they are stored."""
        drawn = self._service.samplings.get_or_draw(request, in_vain)
        pictures = np.frombuffer(drawn.finished, np.uint8).reshape(request.num_images, *self._rows_shape)
        return {"images": pictures.tolist(), "seconds": round(drawn.seconds, 3)}

    def elbo_terms(self, x0: object, seed: object, in_vain: InVain) -> Answer:
        """Every term of Eq. 5, in bits per dimension."""
        request = PictureRequest("bound", self._pixels(x0), check_whole("seed", seed, 0, MAX_SEED))
        bound = self._service.readings.get_or_compute_bound(request, in_vain)
        return {
            "prior": bound.prior,
            "kl": bound.bits[1:].tolist(),
            "reconstruction": float(bound.bits[0]),
            "total": bound.total,
            "eps_mse": bound.mse.tolist(),
        }

    def classify(self, x0: object, seed: object, in_vain: InVain) -> Answer:
        """p(y | x_0) over the labels y, and the bits per dimension that each label saves."""
        classes = self._service.checkpoint.classes
        if classes is None:
            raise InputError("refused.no_classes")
        request = PictureRequest("classify", self._pixels(x0), check_whole("seed", seed, 0, MAX_SEED))
        found = self._service.readings.get_or_classify(request, in_vain)
        return {
            "probabilities": dict(zip(classes.names, found.probabilities, strict=True)),
            "bits": dict(zip(classes.names, found.bits, strict=True)),
        }

    def _timestep(self, t: object) -> torch.Tensor:
        """(1,) int64, 0-based."""
        return torch.tensor([check_whole("t", t, 1, self._service.num_steps) - 1])

    def _pixels(self, x0: object) -> bytes:
        """The bytes of a picture that came as rows; of the page's first picture if none came."""
        if x0 is not None:
            return check_array("x0", x0, self._rows_shape, 0, 255, whole=True).astype(np.uint8).tobytes()
        first = self._service.first_picture()
        if first is None:
            self._service.start_example()  # nobody may have looked at this model yet
            raise InputError("refused.no_example", name="x0")
        return first

    def _rows(self, image: torch.Tensor) -> list:
        """(1, C, H, W) as rows."""
        return image[0].permute(1, 2, 0).double().numpy().round(6).reshape(self._rows_shape).tolist()
