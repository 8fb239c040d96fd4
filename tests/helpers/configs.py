"""The options of a group of `conf/`, composed and built as a run composes and builds them."""

from __future__ import annotations

import functools
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fm_al.compose.composer import Composer
from fm_al.config import build
from fm_al.launch.planning import plain_config, without_hydra
from tests.conftest import CONF


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as a run has it."""
    return plain_config(without_hydra(config))


@functools.cache
def node(group: str, name: str) -> dict[str, Any]:
    """The node that `fm-al <group>=<name>` composes; what has to be given is `???`."""
    composed = Composer().compose([f"{group}={name}"])
    return OmegaConf.to_container(composed[group], resolve=True)


def built(group: str, name: str, **options: Any) -> Any:
    """The option `name` of `group`, with `options` in place of its own."""
    return build(node(group, name) | options)
