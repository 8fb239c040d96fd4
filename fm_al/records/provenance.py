"""Where a run comes from: versions, the git commit, the process, and the command line without
secrets."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fm_al import __version__
from fm_al.records.lock import Process

COMMAND = "FM_AL_COMMAND"  # environment variable: the command that this process runs on behalf of
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "hydra-core", "wandb")
# Options that may hold a secret, such as `export WANDB_API_KEY=...` in a job's setup.
SECRET_OPTIONS = (
    "hydra.launcher.setup",
    "hydra.launcher.teardown",
    "hydra.launcher.srun_args",
    "hydra.launcher.additional_parameters",
    "hydra.job.env_set",
)


def now() -> str:
    """The time in ISO 8601, UTC, in whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def this_process() -> dict[str, Any]:
    """This process, as `Start` and `Failure` record it."""
    process = Process.this()
    return {
        "host": process.host,
        "process": process.pid,
        "job": process.job,
        "node": process.node,
        "partition": process.partition,
    }


@functools.cache
def software() -> dict[str, str | None]:
    """Versions of Python and of the packages that results may depend on (None: not installed), the
    git commit and a digest of this package's code."""
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "fm_al": __version__,
    }
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions | {"git_commit": _git_commit(), "source": _source()}


def _source() -> str:
    """A digest of this package's code as it is, committed or not."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _git_commit() -> str | None:
    """The commit of this package's checkout, followed by `+` if it has uncommitted changes; None
    for an installed copy, even one inside another project's repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> list[str]:
    """The command that was typed to start this process, or the sweep that it belongs to, without
    secrets."""
    if COMMAND in os.environ:
        return json.loads(os.environ[COMMAND])
    return without_secrets(["fm-al", *sys.argv[1:]])


def without_secrets(command: list[str]) -> list[str]:
    """Replaces the values of options that may hold a secret by dots: those of SECRET_OPTIONS,
    options below them, and options that contain them, such as `hydra.launcher={setup: [...]}`."""
    return [_without_secret(argument) for argument in command]


def _without_secret(argument: str) -> str:
    key, equals, _ = argument.partition("=")
    option = f"{key.lstrip('+~')}."
    may_hold_secret = any(
        f"{secret}.".startswith(option) or option.startswith(f"{secret}.")
        for secret in SECRET_OPTIONS
    )
    return f"{key}=..." if equals and may_hold_secret else argument
