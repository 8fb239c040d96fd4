"""Batch active learning experiments on image classification."""

import os

# OpenMP's threads would spin while they wait for each other. On a machine that does anything else,
# a second run say, that made small networks 10 to 30 times slower; it has to stand before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
