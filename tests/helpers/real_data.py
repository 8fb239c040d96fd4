"""Where real images are, on machines that have some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def folder_with(part: str) -> Path:
    """FM_AL_DATA_DIR or the checkout's data, whichever holds `part`; skips the test without."""
    places = [REPOSITORY / "data"]
    if "FM_AL_DATA_DIR" in os.environ:
        places.insert(0, Path(os.environ["FM_AL_DATA_DIR"]))
    for place in places:
        if (place / part).exists():
            return place
    pytest.skip(f"no {part} in {' or '.join(map(str, places))}")
