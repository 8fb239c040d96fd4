"""The options of a group of `conf/`, built from their files as a run builds them."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from fm_al.config import build
from tests.conftest import CONF


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def built(group: str, name: str, **options: Any) -> Any:
    """The option `name` of `group`, with `options` in place of its own."""
    node = OmegaConf.merge(OmegaConf.load(CONF / group / f"{name}.yaml"), options)
    return build(OmegaConf.to_container(node, resolve=True))
