"""The two kinds of error a user meets; each is one line that says what would do."""

import argparse
from typing import NoReturn


class ConfigError(ValueError):
    """The configuration can't work: names the key, the value and what is allowed. Exit code 2."""


# What a network that diverged may be saved by, for the errors that report it.
DIVERGED = "try a lower trainer.optimizer.lr, trainer.clamp_gradients=0.1 or device.precision=fp32"


class RunError(RuntimeError):
    """A well configured run can't go on: says where, why and what to try. Exit code 1."""


class HeldError(RunError):
    """Another live process writes the run; it goes on there."""


class ArgumentParser(argparse.ArgumentParser):
    """Of a command whose arguments are not Hydra's."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help says what there is")
