"""Nothing leaves the machine, nothing is left in the user's cache, torch does not fight over two cores, and which engine
computes does not depend on how fast this machine is."""

import math
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
import torch

from ddpm import compiled


@pytest.fixture(autouse=True, scope="session")
def _engine():
    torch.set_num_threads(1)
    compiled.WORTH_S = math.inf  # OpenVINO computes where a test asks for it, not after so many seconds


@pytest.fixture(autouse=True, scope="session")
def data_cache(tmp_path_factory):
    """Prepared images, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["DDPM_CACHE"] = str(folder)
    return folder
