"""For all tests: nothing leaves the machine, nothing stays in the user's cache, torch computes on one thread, and which
engine computes does not depend on the speed of the machine. Tests in browser/ and hub/ get markers of these names."""

import gc
import math
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
import torch

from ddpm import compiled


@pytest.fixture(autouse=True, scope="session")
def _engine():
    torch.set_num_threads(1)
    compiled.WORTH_S = math.inf  # OpenVINO computes if a test asks for it, not after some seconds of PyTorch


@pytest.fixture(autouse=True, scope="session")
def data_cache(tmp_path_factory):
    """Prepared images and trained classifiers, for all processes of the tests and those they start."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    os.environ["DDPM_CACHE"] = str(folder)
    return folder


def pytest_collection_finish():
    """What the test files have imported is never garbage, and to look through it takes a second."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Mark tests by their folder, for `-m "not browser"` and the like.

    A test of the browser that fails is tried once more, and the summary counts it: several servers, browsers and
    trainings share two cores, where a page may lose its connection for a moment. What is wrong fails twice.
    """
    for folder in ("browser", "hub"):
        for item in items:
            if Path(__file__).parent / folder in item.path.parents:
                item.add_marker(folder)
                if folder == "browser":
                    item.add_marker(pytest.mark.flaky(reruns=1))
