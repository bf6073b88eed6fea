"""Are samples like the data, and no copies of them: Fréchet distance and nearest neighbours.

The distance needs a network whose features mean something for the data. For digits, MNIST and Fashion-MNIST that is a
small classifier trained here on the labelled training split; ImageNet's Inception knows nothing of 28x28 digits. Such
figures compare within this project only, at the same n and never without the floor: real against real images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.data import Images, to_float
from ddpm.draws import Purpose, generator
from ddpm.errors import first_line
from ddpm.files import cache_folder

log = logging.getLogger(__name__)

CLASSIFIER_STEPS = 1500  # of 64 images, and at least 3 epochs
MAX_CLASSES = 1000
FLOOR_SPLITS = 5  # one split of the real images says little: its distance varies by a quarter
CLASSIFIER_VERSION = 2  # raise it when the network or its training changes
BATCH = 512


class Classifier(nn.Module):
    """A small convolutional network; `features` are the 64 activations below its last layer."""

    num_features = 64

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(4),
            nn.Flatten(),
            nn.Dropout(0.25),
        )
        self.hidden = nn.Linear(64 * 16, self.num_features)
        self.last = nn.Linear(self.num_features, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] to (B, 64)."""
        return F.relu(self.hidden(self.convolutions(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def train_classifier(images: Images, device: torch.device | str = "cpu") -> tuple[Classifier, float | None]:
    """A classifier of the labelled training images and its accuracy on the held-out ones, None where those have no
    labels. Kept beside the data: every evaluation on a machine looks through the same eyes.

    Raises:
        ValueError: the images have no labels, only one, or too many.
    """
    from tqdm import tqdm

    other = "" if images.channels == 1 else "take --feature_network inception, or "
    if images.train_labels is None:
        raise ValueError(
            "these images have no labels, which the classifier behind the Fréchet distance learns from: "
            f"{other}--num_samples 0"
        )
    known = np.flatnonzero(images.train_labels >= 0)
    names, labels = np.unique(images.train_labels[known], return_inverse=True)
    classes = len(names)
    if not 2 <= classes <= MAX_CLASSES:
        raise ValueError(
            f"the images have {classes} different labels, a classifier takes 2 to {MAX_CLASSES}: {other}--num_samples 0"
        )
    network = Classifier(images.channels, classes)
    key = hashlib.sha256(f"{CLASSIFIER_VERSION} {CLASSIFIER_STEPS} {images.fingerprint} {len(images.train)}".encode())
    for values in (images.train_labels, images.eval_labels):
        key.update(b"none" if values is None else values.tobytes())
    path = cache_folder() / f"classifier-{key.hexdigest()[:24]}.safetensors"
    if path.is_file():
        try:
            with safetensors.safe_open(path, "pt") as file:
                accuracy = json.loads(file.metadata()["accuracy"])
            network.load_state_dict(safetensors.torch.load_file(path))
            return network.to(device).eval(), accuracy
        except (safetensors.SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            log.warning("%s is damaged (%s); training it again", path, first_line(error))

    epochs = max(3, -(-CLASSIFIER_STEPS * 64 // len(known)))
    steps = epochs * -(-len(known) // 64)
    progress = tqdm(total=steps, desc="training the classifier", unit=" steps", leave=False, delay=1)
    with torch.random.fork_rng(), torch.enable_grad(), progress:
        torch.manual_seed(0)
        network = Classifier(images.channels, classes).to(device).train()
        optimizer = torch.optim.Adam(network.parameters())
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        for epoch in range(epochs):
            order = generator(0, Purpose.QUALITY, epoch).permutation(len(known))
            for index in np.array_split(order, steps // epochs):
                x, y = to_float(images.train[known[index]], device), torch.from_numpy(labels[index]).to(device)
                F.cross_entropy(network(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
                rate.step()
                progress.update()
    network.eval()
    accuracy = None
    if images.eval_labels is not None:
        held_out = np.flatnonzero(images.eval_labels >= 0)
        with torch.no_grad():
            found = [
                network(to_float(images.eval[part], device)).argmax(1).cpu().numpy()
                for part in (held_out[i : i + BATCH] for i in range(0, len(held_out), BATCH))
            ]
        accuracy = float(np.mean(names[np.concatenate(found)] == images.eval_labels[held_out]))
    try:
        temporary = path.with_suffix(".tmp")
        safetensors.torch.save_file(network.cpu().state_dict(), temporary, {"accuracy": json.dumps(accuracy)})
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        log.warning("the classifier could not be kept (%s); the next evaluation trains it again", first_line(error))
    return network.to(device), accuracy


class Features:
    """uint8 images to the features that the Fréchet distance compares.

    Args:
        name: "classifier", "inception", or "auto": the classifier for labelled or grayscale images, else Inception.
    Attributes:
        name: what was chosen. accuracy: of the classifier on held-out images, or None.
    Raises:
        ValueError: it cannot be had for these images.
    """

    def __init__(self, name: str, images: Images, device: torch.device | str = "cpu") -> None:
        grayscale = images.channels == 1
        if name == "auto":
            name = "classifier" if grayscale or images.train_labels is not None else "inception"
        self.name, self.accuracy, self.device = name, None, device
        if name == "classifier":
            network, self.accuracy = train_classifier(images, device)
            self.compute = lambda pixels: network.features(to_float(pixels, device))
            return
        if grayscale:
            raise ValueError(
                "--feature_network inception: it was trained on colour photographs; take classifier (for labelled "
                "images) or --num_samples 0"
            )
        from torchmetrics.image.fid import FrechetInceptionDistance

        try:
            network = FrechetInceptionDistance(feature=2048).inception.to(device)
        except Exception as error:  # the package is missing, or its weights cannot be downloaded
            raise ValueError(
                f"--feature_network inception cannot be loaded ({first_line(error)}); it takes pip install "
                "torch-fidelity and a download of its weights, or --num_samples 0"
            ) from None
        self.compute = lambda pixels: network(torch.from_numpy(np.array(pixels)).to(device))

    @torch.no_grad()
    def __call__(self, images: np.ndarray, index: np.ndarray | None = None) -> Tensor:
        """(N, C, H, W) uint8, or those at `index` of a memory map, to (N, features) float64 on the CPU."""
        index = np.arange(len(images)) if index is None else index
        parts = (index[i : i + BATCH] for i in range(0, len(index), BATCH))
        return torch.cat([self.compute(images[part]).cpu().double() for part in parts])


def frechet_distance(real: Tensor, others: Tensor) -> float:
    """Between Gaussians fitted to two sets of features, (N, F) and (M, F) float64, by torchmetrics."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    identity = nn.Identity()
    identity.num_features = real.shape[1]  # the features are computed once, outside
    metric = FrechetInceptionDistance(feature=identity, sync_on_compute=False)  # one process has them all
    metric.update(real, real=True)
    metric.update(others, real=False)
    return float(metric.compute())


def check_count(images: Images, count: int) -> None:
    """Refuse more samples than real images to compare them with.

    Raises:
        ValueError: fewer images than twice `count`.
    """
    if not 2 <= count <= len(images.train) // 2:
        raise ValueError(
            f"--num_samples {count}: 2 to {len(images.train) // 2} are possible with {len(images.train)} training "
            "images, half of which are the reference"
        )


def distances(real: Tensor, drawn: Tensor, seed: int) -> dict[str, float]:
    """Fréchet distance of samples and its floor: as many real images, against the same other real images. The mean over
    FLOOR_SPLITS random splits, and the standard deviation of the floor over them.

    Args:
        real: (N, F) features of all training images. drawn: (n, F) of the samples, n at most N / 2.
    """
    found = []
    for split in range(FLOOR_SPLITS):
        order = torch.from_numpy(generator(seed, Purpose.QUALITY, slot=1 + split).permutation(len(real)))
        floor, reference = real[order[: len(drawn)]], real[order[len(drawn) :]]
        found.append((frechet_distance(reference, drawn), frechet_distance(reference, floor)))
    of_samples, of_real = np.array(found).T
    return {
        "frechet_distance": float(of_samples.mean()),
        "frechet_distance_real": float(of_real.mean()),
        "frechet_distance_real_sd": float(of_real.std(ddof=1)),
        "num_reference": len(real) - len(drawn),
    }


@dataclass(frozen=True, eq=False)
class Neighbours:
    """`index` (N, k) of the nearest training images and `distance` (N, k), the root mean square difference of pixels
    in [0, 1]; nearest first."""

    index: np.ndarray
    distance: np.ndarray


def nearest(queries: np.ndarray, train: np.ndarray, k: int = 5) -> Neighbours:
    """The training images most like each query, by pixels. Both (N, C, H, W) uint8."""
    parts = [_nearest(queries[i : i + 1024], train, k) for i in range(0, len(queries), 1024)]
    return Neighbours(np.concatenate([p.index for p in parts]), np.concatenate([p.distance for p in parts]))


def _nearest(queries: np.ndarray, train: np.ndarray, k: int) -> Neighbours:
    flat = torch.from_numpy(np.array(queries).reshape(len(queries), -1)).float() / 255
    found: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(train), 8192):
        part = torch.from_numpy(np.array(train[start : start + 8192]).reshape(-1, flat.shape[1])).float() / 255
        squared = flat.square().sum(1)[:, None] + part.square().sum(1) - 2 * flat @ part.T
        distance, index = squared.clamp(min=0).topk(min(k, len(part)), largest=False)
        found.append((distance, index + start))
    distance, index = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    best = distance.topk(min(k, distance.shape[1]), largest=False)
    return Neighbours(index.gather(1, best.indices).numpy(), (best.values / flat.shape[1]).sqrt().numpy())
