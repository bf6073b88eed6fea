"""Denoising diffusion probabilistic models (Ho et al. 2020, arXiv 2006.11239)."""

import os

__version__ = "0.1.0"

# Read by GNU's OpenMP as torch loads it: how long a thread that has nothing to do spins before it sleeps. By default a
# millisecond, and programs on the same cores hold each other up: a training at nice 10 beside another made less than 21
# images/s on 2 cores, and 135 with this, which is no slower alone.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
