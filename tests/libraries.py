"""What launch.py's server loads once for all commands. Nothing here computes: threads do not survive a fork."""

# ruff: noqa: F401
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
