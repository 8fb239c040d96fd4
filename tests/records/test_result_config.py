"""A run that began before an option existed is resumed by the configuration of now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fm_al.errors import RunError
from fm_al.records.result_config import (
    as_now,
    is_identical,
    refuse_another_run,
    result_config_of,
)
from tests.conftest import Compose
from tests.helpers.configs import resolved


def of(config: dict[str, Any]) -> dict[str, Any]:
    return result_config_of(config, {"kind": "cpu"})


def without_sampling(config: dict[str, Any]) -> dict[str, Any]:
    trainer = {key: value for key, value in config["trainer"].items() if key != "sampling"}
    return config | {"trainer": trainer}


@pytest.mark.parametrize("trainer", ["paper", "standard"])
def test_a_run_from_before_sampling_is_todays_run_and_no_balanced_one(
    trainer: str, compose: Compose
) -> None:
    config = resolved(compose(f"trainer={trainer}"))
    before = without_sampling(of(config))
    assert is_identical(as_now(before), of(config))
    refuse_another_run(Path("run"), as_now(before), of(config))
    balanced = of(resolved(compose(f"trainer={trainer}", "trainer.sampling=balanced")))
    with pytest.raises(RunError, match=r'trainer\.sampling \("uniform" there, "balanced" now\)'):
        refuse_another_run(Path("run"), as_now(before), balanced)


def test_a_trainer_of_the_users_own_configuration_may_lack_sampling(compose: Compose) -> None:
    config = without_sampling(resolved(compose("trainer=paper")))
    assert is_identical(as_now(of(config)), of(config))
    assert of(config) == of(resolved(compose("trainer=paper")))
    own = config | {"trainer": {"_target_": "mine.Trainer", "batch_size": 4}}
    assert of(own)["trainer"] == own["trainer"]
    assert as_now(of(own))["trainer"] == own["trainer"]
