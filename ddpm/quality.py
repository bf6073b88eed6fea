"""Are samples like the data, and no copies of them: Fréchet distance and nearest neighbours.

The distance needs a network whose features mean something for the data. For digits, MNIST and Fashion-MNIST that is a
small classifier trained here on the labelled training split; ImageNet's Inception knows nothing of 28x28 digits. Such
figures compare within this project only, at the same n and never without the floor: real against real images.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import Images, cache_folder, to_float
from .draws import Purpose, generator
from .errors import first_line

log = logging.getLogger(__name__)

CLASSIFIER_STEPS = 1500  # of 64 images, and at least 3 epochs
CLASSIFIER_VERSION = 1  # raise it when the network or its training changes
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


def train_classifier(images: Images, device: torch.device | str = "cpu") -> tuple[Classifier, float]:
    """A classifier of the labelled training split and its accuracy on the held-out one; kept beside the data.

    Raises:
        ValueError: the images have no labels, or only one.
    """
    if images.train_labels is None:
        raise ValueError(
            "these images have no labels, which the classifier behind the Fréchet distance learns from: "
            "take --feature_network inception, or --num_samples 0"
        )
    classes = int(max(images.train_labels.max(), images.eval_labels.max())) + 1
    if len(np.unique(images.train_labels)) < 2:
        raise ValueError("all images have the same label: a classifier needs two or more; take --num_samples 0")
    network = Classifier(images.channels, classes)
    path = cache_folder() / f"classifier-{images.fingerprint[:24]}-{CLASSIFIER_VERSION}.safetensors"
    if path.is_file():
        try:
            with safetensors.safe_open(path, "pt") as file:
                accuracy = float(file.metadata()["accuracy"])
            network.load_state_dict(safetensors.torch.load_file(path))
            return network.to(device).eval(), accuracy
        except (safetensors.SafetensorError, OSError, KeyError, RuntimeError) as error:
            log.warning("%s is damaged (%s); training it again", path, first_line(error))

    # Seeds of its own: every evaluation of one dataset looks through the same eyes.
    epochs = max(3, -(-CLASSIFIER_STEPS * 64 // len(images.train)))
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        network = Classifier(images.channels, classes).to(device).train()
        optimizer = torch.optim.Adam(network.parameters())
        steps = epochs * -(-len(images.train) // 64)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        log.info("Training the classifier whose features the Fréchet distance compares, once for this dataset ...")
        for epoch in range(epochs):
            for index in np.array_split(
                generator(0, Purpose.QUALITY, epoch).permutation(len(images.train)), steps // epochs
            ):
                index.sort()
                y = torch.from_numpy(images.train_labels[index]).to(device)
                F.cross_entropy(network(to_float(images.train[index], device)), y).backward()
                optimizer.step()
                optimizer.zero_grad()
                rate.step()
    network.eval()
    with torch.no_grad():
        right = sum(
            int(
                (
                    network(to_float(images.eval[i : i + BATCH], device)).argmax(1).cpu().numpy()
                    == images.eval_labels[i : i + BATCH]
                ).sum()
            )
            for i in range(0, len(images.eval), BATCH)
        )
    accuracy = right / len(images.eval)
    try:
        temporary = path.with_suffix(".tmp")
        safetensors.torch.save_file(network.cpu().state_dict(), temporary, {"accuracy": repr(accuracy)})
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
            raise ValueError("--feature_network inception: it was trained on colour photographs; take classifier")
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
        return torch.cat([self.compute(images[part]).double().cpu() for part in parts])


def frechet_distance(real: Tensor, others: Tensor) -> float:
    """Between Gaussians fitted to two sets of features, (N, F) and (M, F) float64, by torchmetrics."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    identity = nn.Identity()
    identity.num_features = real.shape[1]  # the features are computed once, outside
    metric = FrechetInceptionDistance(feature=identity, sync_on_compute=False)  # one process has them all
    metric.update(real, real=True)
    metric.update(others, real=False)
    return float(metric.compute())


def split_real(images: Images, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `count` training images that play samples for the floor, and of the others, the reference.

    Raises:
        ValueError: fewer images than twice `count`.
    """
    if not 2 <= count <= len(images.train) // 2:
        raise ValueError(
            f"--num_samples {count}: 2 to {len(images.train) // 2} are possible with {len(images.train)} training "
            "images, half of which are the reference"
        )
    order = generator(seed, Purpose.QUALITY, slot=1).permutation(len(images.train))
    return np.sort(order[:count]), np.sort(order[count:])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """`index` (N, k) of the nearest training images and `distance` (N, k), the root mean square difference of pixels
    in [0, 1]; nearest first."""

    index: np.ndarray
    distance: np.ndarray


def nearest(queries: np.ndarray, train: np.ndarray, k: int = 5) -> Neighbours:
    """The training images most like each query, by pixels. Both (N, C, H, W) uint8."""
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
