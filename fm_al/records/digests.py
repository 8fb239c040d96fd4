"""Digests, by which a changed value is noticed wherever it is.

Each line of rounds.jsonl has a digest of its values and of the digest before it. The first line
continues the run's fingerprint, and result.json continues the last line.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

LENGTH = 32  # hex digits


def canonical(value: dict[str, Any]) -> str:
    """The same text for equal JSON objects, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def fingerprint(result_config: dict[str, Any]) -> str:
    """SHA-256 of a result config, in hex."""
    return hashlib.sha256(canonical(result_config).encode()).hexdigest()


def chained(previous: str, value: dict[str, Any]) -> str:
    """The digest of a JSON object that follows the digest `previous`; its own is left out."""
    values = canonical({key: each for key, each in value.items() if key != "digest"})
    return hashlib.sha256(f"{previous}{values}".encode()).hexdigest()[:LENGTH]


def file_digest(path: Path) -> str:
    """The digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:LENGTH]
