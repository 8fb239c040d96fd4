"""The part of a configuration that a run's results depend on, and its fingerprint.

On disk it is `decides` in provenance.json. Two runs with the same one give the same results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fm_al.errors import RunError
from fm_al.records.digests import canonical

# A resolved configuration, or a part of it: nested mappings, lists and scalars.
Config = dict[str, Any]

NO_EFFECT_ON_RESULTS = ("tracker", "output_dir", "data_dir", "download", "device")
# Options added after the first version, at the values that match what that version did: of every
# strategy of this package, of some classes, and of strategies with a `regularization`.
ADDED_TO_STRATEGIES = {"max_candidates": None}
ADDED_TO: dict[str, Config] = {
    "fm_al.strategies.coreset.Coreset": {"representation": "embeddings"},
    "fm_al.strategies.kmeans.KMeans": {"representation": "embeddings"},
    "fm_al.features.pca.PCA": {"whiten": True},
    "fm_al.training.Trainer": {"sampling": "uniform"},
}
ADDED_TO_FISHER_STRATEGIES = {
    "regularization_scale": "absolute",
    "labelled_weight": "mean",
    "temperature": 1,
    "approximation": None,
    "top_classes": 5,
}
# The group `features` was added later, too: without features, a run is what it was before.
NO_FEATURES = {"_target_": "fm_al.features.none.NoFeatures"}
# Options of the budget that were added later, at values with which a run is what it was before.
RANDOM_START = {"_target_": "fm_al.starts.random.RandomStart"}
NO_EFFECT_IN_BUDGET = {"start": (None, RANDOM_START), "growth": (1,), "whole_pool": (False,)}
FOUND_IN_DATA = ("dataset_content", "features_content")  # known once the data are loaded
LONGEST_LIST = 200  # characters of a list in an error


def result_config_of(config: Config, device: Config) -> Config:
    """Returns all that a run's results depend on, as JSON gives it back.

    Args:
        config: The resolved configuration. Its tracker and places are left out, and so is the place
            of an image folder: the folder's content counts, see `ImageData.content`.
        device: The device's options as they were resolved on this machine.
    """
    kept = {k: v for k, v in config.items() if k not in NO_EFFECT_ON_RESULTS} | {"device": device}
    if kept.get("features") == NO_FEATURES:
        del kept["features"]
    if "budget" in kept:
        kept["budget"] = {
            k: v for k, v in kept["budget"].items() if v not in NO_EFFECT_IN_BUDGET.get(k, ())
        }
    kept["dataset"] = {k: v for k, v in config["dataset"].items() if k != "root"}
    if "trainer" in kept:
        kept["trainer"] = _completed(kept["trainer"])  # a file of the user's own may lack options
    return json.loads(json.dumps(kept))


def as_now(there: Config) -> Config:
    """Completes a recorded result config with the options that were added since its run began."""
    done = there | {"strategy": _completed(there.get("strategy"))}
    return done | {key: _completed(there[key]) for key in ("features", "trainer") if key in there}


def _completed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    target = str(node.get("_target_"))
    added = ADDED_TO.get(target, {})
    if target.startswith("fm_al.strategies."):
        added = ADDED_TO_STRATEGIES | added
    if "regularization" in node:
        added = added | ADDED_TO_FISHER_STRATEGIES
    return added | {key: _completed(value) for key, value in node.items()}


def refuse_another_run(directory: Path, there: Config, now: Config) -> None:
    """Compares the result config of the run in a directory with the one to be run.

    Args:
        directory: The run's directory.
        there: `Provenance.result_config` of that run.
        now: The result config to be run, as far as it is known.

    Raises:
        RunError: They differ; the message names the keys and both values.
    """
    there = comparable(there, now)
    differ = list(_differences("", there, now))
    if differ:
        images = now.get("dataset_content") not in (None, there.get("dataset_content"))
        why = " (its images, or how they are decoded, have changed since)" if images else ""
        raise RunError(
            f"{directory} holds a run that differs in {', '.join(differ)}{why}; "
            "use another experiment_name, or move that directory away"
        )


def comparable(there: Config, now: Config) -> Config:
    """Drops from a recorded result config what `now` does not know: the content of data set and
    features before the data are loaded, and properties of another machine's device."""
    unknown = [key for key in FOUND_IN_DATA if key not in now]
    there = {k: v for k, v in there.items() if k not in unknown}
    if isinstance(there.get("device"), dict) and "device" in now:
        known = now["device"]
        there = there | {"device": {k: v for k, v in there["device"].items() if k in known}}
    return there


def is_identical(there: Config, now: Config) -> bool:
    """Whether they agree exactly, where 1 is neither 1.0 nor true."""
    return canonical(comparable(there, now)) == canonical(now)


def refuse_other_classes(directory: Path, there: list[str], now: list[str]) -> None:
    """Raises RunError if a run's classes are not those that its configuration names: earlier
    versions took a number for a position where it is a class's name."""
    if there != now:
        raise RunError(
            f"{directory} holds a run of the classes {json.dumps(there)[:LONGEST_LIST]}, and the "
            f"configuration now names {json.dumps(now)[:LONGEST_LIST]}; use another "
            "experiment_name, or move that directory away"
        )


def _differences(key: str, there: Any, now: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(now, dict):
        for name in sorted({*there, *now}):
            full_key = f"{key}.{name}" if key else name
            yield from _differences(full_key, there.get(name), now.get(name))
    elif there != now:
        yield f"{key} ({json.dumps(there)} there, {json.dumps(now)} now)"
