"""Where the tests marked `gpu` run: on a CUDA GPU.

FM_AL_GPU_TESTS_ON=cpu runs those that can on the CPU instead, to test the tests.
"""

from __future__ import annotations

import os

import pytest
import torch

GPU = torch.device(os.environ.get("FM_AL_GPU_TESTS_ON", "cuda"))
CPU = torch.device("cpu")

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        GPU.type == "cuda" and not torch.cuda.is_available(), reason="torch finds no CUDA GPU"
    ),
]
only_cuda = pytest.mark.skipif(GPU.type != "cuda", reason="CUDA alone can tell")
