"""The lines of a SLURM job script that fm_al adds to submitit's, and checks of its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from fm_al.config import check_range
from fm_al.errors import ConfigError
from fm_al.records.result_config import Config

# From 22.05 to 23.02, srun does not inherit this from the job.
CPUS_OF_A_STEP = '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
MINIMUMS = {
    "cpus_per_task": 1,
    "max_num_timeout": 0,
    "slurm_array_parallelism": 1,
    "slurm_signal_delay_s": 0,
    "timeout_min": 1,
}
OF_LOGS = ("array", "error", "open-mode", "output")


def or_end(line: str) -> list[str]:
    """A line of a job script, and one that ends the job if it fails."""
    said = shlex.quote(
        f"fm-al: the job ends because this line of hydra.launcher.setup failed: {line}"
    )
    return [line, f"[ $? -eq 0 ] || {{ echo {said} >&2; exit 1; }}"]


def may_be_requeued(additional: Config) -> Config:
    """sbatch's further options, without those that are switched off. Since runs resume, a job may
    be queued again after a failure of its node, unless the options rule it out."""
    # By identity, since 0 is a value: {nice: 0}.
    on = {k: v for k, v in additional.items() if v is not None and v is not False}
    if additional.get("requeue") is False:
        on["no-requeue"] = True
    if any(_sbatch_name(key) == "no-requeue" for key in on):
        return {key: value for key, value in on.items() if key != "requeue"}
    return ({} if "requeue" in additional else {"requeue": True}) | on


def _sbatch_name(key: str) -> str:
    return key.replace("_", "-")


def check_parameters(parameters: Config) -> None:
    """Check submitit's parameters. Raises ConfigError for what a job script cannot hold."""

    def texts(value: Any) -> Iterable[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for item in pair for text in texts(item)]
        return [value] if isinstance(value, str) else []

    for name, value in parameters.items():
        key = f"hydra.launcher.{name.removeprefix('slurm_')}"
        check_range(key, value)
        for text in texts(value):
            if re.search(r"[\x00-\x1f\x7f]", text):
                raise ConfigError(
                    f"{key}={text!r}: a job script's line can't hold a control character"
                )
        if name in ("nodes", "tasks_per_node") and value != 1:
            raise ConfigError(f"{key}={value}: a run is one process, so it should be 1")
        if name in MINIMUMS and value is not None and value < MINIMUMS[name]:
            raise ConfigError(f"{key}={value}: should be at least {MINIMUMS[name]}")
    for name in parameters.get("slurm_additional_parameters") or {}:
        if _sbatch_name(name) in OF_LOGS:
            raise ConfigError(
                f"hydra.launcher.additional_parameters.{name}: fm-al sets it, so that a run's "
                "job.json can name its log; leave it out"
            )
    per_gpu = parameters.get("slurm_cpus_per_gpu")
    if per_gpu is not None and parameters.get("slurm_gpus_per_task") is None:
        raise ConfigError(
            f"hydra.launcher.cpus_per_gpu={per_gpu}: needs hydra.launcher.gpus_per_task; a run "
            "uses one GPU, so cpus_per_task does the same"
        )
    limit, ahead = parameters["timeout_min"], parameters["slurm_signal_delay_s"]
    if ahead >= 60 * limit:
        raise ConfigError(
            f"hydra.launcher.signal_delay_s={ahead}: should be well below timeout_min={limit} "
            "minutes, or the job is told to end before it has begun"
        )
