"""The launcher that a sweep's options ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fm_al.compose.composer import OF_SUBMITIT, resolved
from fm_al.config import check_arguments
from fm_al.errors import ConfigError
from fm_al.launch.launcher import Launcher
from fm_al.launch.serial import SerialLauncher
from fm_al.planned_run import PlannedRun

if TYPE_CHECKING:
    from fm_al.launch.slurm import SlurmLauncher

# submitit's options that are not SLURM's alone.
OF_EVERY_EXECUTOR = (
    "cpus_per_task",
    "gpus_per_node",
    "mem_gb",
    "name",
    "nodes",
    "stderr_to_stdout",
    "tasks_per_node",
    "timeout_min",
)
OWN_FOLDER = "./.submitit/%j"  # hydra-submitit-launcher's default


def options_of(composed: DictConfig, key: str) -> dict[str, Any]:
    """The resolved options of one of Hydra's own nodes. Raises ConfigError."""
    node = OmegaConf.select(composed, key)
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{key}={node}: should be a mapping; give its options one by one")
    return resolved(node)


def chosen_launcher(
    composed: DictConfig, planned: Sequence[PlannedRun], max_jobs: int | None, console: Console
) -> Launcher:
    """The launcher of `hydra/launcher`, with its options.

    Args:
        composed: The first run's configuration, with Hydra's own node.
        planned: The runs of the sweep.
        max_jobs: The most jobs of this user in SLURM's queue at a time; None is no limit.
        console: Where the launcher prints.

    Raises:
        ConfigError: If there is no such launcher, or an option is invalid.
    """
    given = options_of(composed, "hydra.launcher")
    choice = composed.hydra.runtime.choices["hydra/launcher"]
    if choice.startswith(OF_SUBMITIT):
        raise ConfigError(
            f"hydra/launcher={choice}: its defaults end a run at a time limit; use local or "
            "slurm, which has the same options"
        )
    devices = [run.device for run in planned if not run.is_recorded]
    # By the class's name: files of a user's own may name those of Hydra's plugins.
    match name := given.pop("_target_").rpartition(".")[2]:
        case "BasicLauncher":
            for device in devices:
                device.result_config()  # raises ConfigError if this machine lacks it
            return SerialLauncher(console)
        case "LocalLauncher":
            from fm_al.launch.local import LocalLauncher  # imports submitit: only where it is used

            check_arguments(
                "hydra.launcher", given, LocalLauncher, ("threads", "on_gpu", "console")
            )
            return LocalLauncher(
                **given,
                threads=max(run.device.threads for run in planned),
                on_gpu=any(device.torch_device.type == "cuda" for device in devices),
                console=console,
            )
        case "SlurmLauncher":
            return _slurm(given, max_jobs, console)
    raise ConfigError(
        f"hydra/launcher ({name}): should be basic (one run after the other), local, slurm or "
        "slurm_gpu"
    )


def _slurm(options: dict[str, Any], max_jobs: int | None, console: Console) -> SlurmLauncher:
    """From the options of hydra-submitit-launcher. submitit marks those that only SLURM has by a
    prefix."""
    from fm_al.launch.slurm import SlurmLauncher  # see above

    if (own := options.pop("submitit_folder")) != OWN_FOLDER:
        raise ConfigError(
            f"hydra.launcher.submitit_folder={own}: jobs are kept in the sweep's own folder, "
            "<output_dir>/<experiment_name>/sweeps; leave this out"
        )
    max_num_timeout = options.pop("max_num_timeout")
    parameters = {
        name if name in OF_EVERY_EXECUTOR else f"slurm_{name}": value
        for name, value in options.items()
    }
    return SlurmLauncher(parameters, max_num_timeout, max_jobs, console)
