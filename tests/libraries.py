"""What launch.py's server loads once for all commands. Nothing here computes: threads do not survive a fork."""

# ruff: noqa: F401
import gc

import accelerate
import gradio
import matplotlib.backends.backend_agg
import matplotlib.figure
import scipy.linalg
import sklearn.datasets
import torch
import torchmetrics.image.fid
import tyro
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

# A garbage collection in a child would look through all of that, which takes a second.
gc.collect()
gc.freeze()
