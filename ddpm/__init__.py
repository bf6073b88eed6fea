"""Denoising diffusion probabilistic models (Ho et al. 2020, arXiv 2006.11239)."""

import os

__version__ = "0.1.0"

# GNU's OpenMP reads this variable when torch loads it: how long an idle thread spins before it sleeps. The default is
# about a millisecond, and then programs that share the cores hold each other up: a training at nice 10 beside another
# program made less than 21 images/s on 2 cores, and 135 with this setting. Alone it is no slower.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
