"""Names of the options of a strategy that is an option of something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fm_al.errors import ConfigError


@contextmanager
def options_below(prefix: str) -> Iterator[None]:
    """Name options in errors as they are typed: a strategy knows its own as `strategy.` alone.

    Args:
        prefix: What is typed instead, such as `strategy.inner.`.
    """
    try:
        yield
    except ConfigError as error:
        named = re.sub(r"(?<![\w.])strategy\.", prefix, str(error))
        raise ConfigError(named) from error
