"""Find the directories of runs below a folder."""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path

logger = logging.getLogger(__name__)


def runs_below(folder: Path) -> list[Path]:
    """Finds the directories of runs in a folder and below it, also behind symbolic links.

    Warns of folders that can't be read.

    Returns:
        Every run once, sorted. A run that is reached both directly and through a link has its
        direct path.
    """

    def unreadable(error: OSError) -> None:
        if Path(error.filename).name != "jobs":  # only its owner may read it
            logger.warning("%s can't be read (%s)", error.filename, error.strerror)

    found = []
    seen: set[Path] = set()
    starts = deque([folder])
    while starts:  # links are queued, so that direct paths come first
        for path, folders, files in os.walk(starts.popleft(), onerror=unreadable):
            here = Path(path)
            is_run = "provenance.json" in files or "job.json" in files
            is_known = (place := here.resolve()) in seen
            seen.add(place)
            if is_run and not is_known:
                found.append(here)
            if is_run or is_known:
                folders.clear()
            starts.extend(here / name for name in folders if (here / name).is_symlink())
    return sorted(found)
