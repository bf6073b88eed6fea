"""Sample quality: the Fréchet distance tells whether samples are like the data, nearest neighbours whether they are
copies of it.

The distance needs a network whose features mean something for the data. For digits, MNIST and Fashion-MNIST this is a
small classifier, trained here on the labelled training split; Inception was trained on ImageNet and knows nothing about
28x28 digits. Compare such distances only within this project, only at the same n, and only beside their floor, which is
the distance of real images from other real images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
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

CLASSIFIER_STEPS = 1500  # of 64 images each; never less than 3 epochs
MAX_CLASSES = 1000
FLOOR_SPLITS = 5  # random splits of the real images; the distance of a single one varies by a quarter
CLASSIFIER_VERSION = 2  # raise it when the network or its training changes, so that no cached classifier is reused
BATCH = 512  # images in one call of a network
CLEAR = 0.9  # the least probability of one class, for an image that counts as clear


class Classifier(nn.Module):
    """A small convolutional network whose features are the 64 activations below its last layer."""

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
    """A classifier of the labelled training images, and its accuracy on the held-out images.

    It is kept in the cache folder, so that all evaluations on a machine use the same features.

    Returns:
        the network, and its accuracy; None if the held-out images have no labels.
    Raises:
        ValueError: the images have no labels, only one, or too many.
    """
    known, names, labels = _labelled(images)
    network = Classifier(images.channels, len(names))
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
            log.warning("%s is damaged (%s); the classifier is trained again", path, first_line(error))
    network = _fit(images, known, labels, len(names), device)
    accuracy = _accuracy(network, images, names, device)
    try:
        temporary = path.with_suffix(".tmp")
        safetensors.torch.save_file(network.cpu().state_dict(), temporary, {"accuracy": json.dumps(accuracy)})
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        log.warning("The classifier could not be saved (%s); the next evaluation trains it again", first_line(error))
    return network.to(device), accuracy


def _labelled(images: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which training images have labels (M,), the different labels (K,), and for each image its place among them (M,).

    Raises:
        ValueError: the images have no labels, only one, or too many.
    """
    other = "" if images.channels == 1 else "pass --feature_network inception, or "
    if images.train_labels is None:
        raise ValueError(
            "these images have no labels, and the classifier behind the Fréchet distance needs them: "
            f"{other}pass --num_samples 0"
        )
    known = np.flatnonzero(images.train_labels >= 0)
    names, labels = np.unique(images.train_labels[known], return_inverse=True)
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"the images have {len(names)} different labels, and the classifier behind the Fréchet distance takes 2 to "
            f"{MAX_CLASSES}: {other}pass --num_samples 0"
        )
    return known, names, labels


def _fit(images: Images, known: np.ndarray, labels: np.ndarray, classes: int, device: torch.device | str) -> Classifier:
    """Train a classifier on the training images at `known` (M,) with `labels` (M,). It ends in eval mode."""
    from tqdm import tqdm

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
    return network.eval()


@torch.no_grad()
def in_batches(compute: Callable[[np.ndarray], Tensor], images: np.ndarray, index: np.ndarray | None = None) -> Tensor:
    """(N, F) on the CPU: what `compute` returns for (N, C, H, W) uint8 images, or for those at `index` of a memory map,
    at most BATCH at a time."""
    index = np.arange(len(images)) if index is None else index
    parts = (index[i : i + BATCH] for i in range(0, len(index), BATCH))
    return torch.cat([compute(images[part]).cpu() for part in parts])


def classified(
    network: nn.Module, images: np.ndarray, device: torch.device | str = "cpu", index: np.ndarray | None = None
) -> Tensor:
    """(N, K) on the CPU: the logits of a classifier; arguments as those of `in_batches`."""
    return in_batches(lambda pixels: network(to_float(pixels, device)), images, index)


def _accuracy(network: Classifier, images: Images, names: np.ndarray, device: torch.device | str) -> float | None:
    """Share of the held-out images that the classifier names right; None if none of them has a label."""
    if images.eval_labels is None:
        return None
    held_out = np.flatnonzero(images.eval_labels >= 0)
    found = classified(network, images.eval, device, held_out).argmax(1).numpy()
    return float(np.mean(names[found] == images.eval_labels[held_out]))


class Features:
    """The features of images that the Fréchet distance compares.

    Args:
        name: "classifier", "inception", or "auto": the classifier for labelled or grayscale images, else Inception.
    Attributes:
        name: the network that was chosen.
        classifier: the classifier, if that was chosen, else None.
        class_names: of its classes.
        accuracy: of the classifier on held-out images, or None.
    Raises:
        ValueError: the network is not available, or does not suit these images.
    """

    def __init__(self, name: str, images: Images, device: torch.device | str = "cpu") -> None:
        grayscale = images.channels == 1
        if name == "auto":
            name = "classifier" if grayscale or images.train_labels is not None else "inception"
        self.name, self.accuracy, self.device, self.classifier = name, None, device, None
        self.class_names: tuple[str, ...] = ()
        if name == "classifier":
            network, self.accuracy = train_classifier(images, device)
            names = dict(zip(images.classes, images.class_names, strict=True))
            self.class_names = tuple(names.get(label, str(label)) for label in _labelled(images)[1].tolist())
            self.classifier = network
            self.compute = lambda pixels: network.features(to_float(pixels, device))
            return
        if grayscale:
            raise ValueError(
                "--feature_network inception: it was trained on colour photographs, and these images are grayscale: "
                "pass --feature_network classifier (for labelled images), or --num_samples 0"
            )
        from torchmetrics.image.fid import FrechetInceptionDistance

        try:
            network = FrechetInceptionDistance(feature=2048).inception.to(device)
        except Exception as error:  # the package is missing, or its weights cannot be downloaded
            raise ValueError(
                f"--feature_network inception cannot be loaded ({first_line(error)}): it needs `pip install "
                "torch-fidelity` and downloads its weights; or pass --num_samples 0"
            ) from None
        self.compute = lambda pixels: network(torch.from_numpy(np.array(pixels)).to(device))

    def __call__(self, images: np.ndarray, index: np.ndarray | None = None) -> Tensor:
        """(N, features) float64 on the CPU, of (N, C, H, W) uint8 images or of those at `index` of a memory map."""
        return in_batches(self.compute, images, index).double()


@dataclass(frozen=True)
class Told:
    """What a classifier says about images.

    Attributes:
        clear: the share of images that it gives one class with a probability of at least CLEAR.
        shares: (K,) the share of images that each class is likeliest for, in the order of the classifier's classes.
    """

    clear: float
    shares: tuple[float, ...]


def told(network: nn.Module, images: np.ndarray, device: torch.device | str = "cpu") -> Told:
    """What a classifier says about (N, C, H, W) uint8 images."""
    probabilities = classified(network, images, device).softmax(1)
    best, place = probabilities.max(1)
    counts = torch.bincount(place, minlength=probabilities.shape[1])
    return Told(float((best >= CLEAR).double().mean()), tuple((counts.double() / len(images)).tolist()))


class _Identity(nn.Identity):
    """Stands in for a feature network where the features are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def frechet_distance(real: Tensor, others: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, (N, F) and (M, F) float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1]), sync_on_compute=False)  # one process has all
    metric.update(real, real=True)
    metric.update(others, real=False)
    return float(metric.compute())


def check_count(images: Images, count: int) -> None:
    """Reject more samples than there are real images to compare them with.

    Raises:
        ValueError: `count` is less than 2, or there are fewer training images than twice `count`.
    """
    if not 2 <= count <= len(images.train) // 2:
        raise ValueError(
            f"--num_samples {count}: 2 to {len(images.train) // 2} is needed, because at least half of the "
            f"{len(images.train)} training images are the reference"
        )


def distances(real: Tensor, drawn: Tensor, seed: int) -> dict[str, float]:
    """Fréchet distance of the samples, and its floor: that of as many real images, both from the remaining real images.

    Both are means over FLOOR_SPLITS random splits; for the floor there is the standard deviation, too.

    Args:
        real: (N, F) features of all training images.
        drawn: (n, F) features of the samples, n at most N / 2.
    """
    (distance,), floor = all_distances(real, [drawn], seed)
    return {"frechet_distance": distance, **floor}


def all_distances(real: Tensor, drawn: Sequence[Tensor], seed: int) -> tuple[list[float], dict[str, float]]:
    """As `distances`, of several sets of samples of the same size: the distance of each, and what they share."""
    count, found = len(drawn[0]), []
    for split in range(FLOOR_SPLITS):
        order = torch.from_numpy(generator(seed, Purpose.QUALITY, slot=1 + split).permutation(len(real)))
        floor, reference = real[order[:count]], real[order[count:]]
        found.append([frechet_distance(reference, features) for features in (floor, *drawn)])
    of_real, *of_samples = np.array(found).T
    shared = {
        "frechet_distance_real": float(of_real.mean()),
        "frechet_distance_real_sd": float(of_real.std(ddof=1)),
        "num_reference": len(real) - count,
    }
    return [float(distances.mean()) for distances in of_samples], shared


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest training images of N queries, nearest first.

    Attributes:
        index: (N, k) places among the training images.
        distance: (N, k) root mean square difference of pixels in [0, 1].
    """

    index: np.ndarray
    distance: np.ndarray


def nearest(queries: np.ndarray, train: np.ndarray, k: int = 5) -> Neighbours:
    """The k training images whose pixels are closest to those of each query. Both are (N, C, H, W) uint8."""
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
