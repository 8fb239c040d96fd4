"""What of a command may hold somebody's key, and so is written nowhere."""

from __future__ import annotations

CONCEALED = (
    "hydra.launcher.setup",
    "hydra.launcher.teardown",
    "hydra.launcher.srun_args",
    "hydra.launcher.additional_parameters",
    "hydra.job.env_set",
)


def concealed(command: list[str]) -> list[str]:
    """A command with dots for the values of options that may hold a key: those above, what is below
    them, and what they are part of, such as `hydra.launcher={setup: [...]}`."""
    return [_concealed(argument) for argument in command]


def _concealed(argument: str) -> str:
    key, equals, _ = argument.partition("=")
    option = f"{key.lstrip('+~')}."
    holds_a_key = any(
        f"{secret}.".startswith(option) or option.startswith(f"{secret}.") for secret in CONCEALED
    )
    return f"{key}=..." if equals and holds_a_key else argument
