"""`query.features` in runs: carried through imbalance and order, computed once, part of the run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.features.pca import PCA
from fm_al.preparation import load_data
from fm_al.strategies.base import Query, Strategy
from tests.helpers.command_line import QUICK, Ended, fm_al

DIGITS = [*QUICK, "imbalance=none", "budget.total=20"]
FARTHEST = ["strategy=random", "strategy._target_=tests.features.test_query_features.Farthest"]


@dataclass(frozen=True, kw_only=True)
class Farthest(Strategy):
    """The unlabelled images with the largest features."""

    max_candidates: int | None = None

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        norms = query.features[query.unlabelled].norm(dim=1)
        query.record("dimensions", query.features.shape[1])
        return query.unlabelled[norms.argsort(descending=True, stable=True)[:n]]


def run(folder: Path, *options: str) -> Ended:
    return fm_al(folder, *DIGITS, *FARTHEST, f"data_dir={folder / 'data'}", *options)


def rounds(folder: Path) -> list[dict]:
    (path,) = folder.rglob("rounds.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_strategy_that_reads_them_needs_them(tmp_path: Path) -> None:
    refused = run(tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == (
        "fm-al: features=none: the strategy reads query.features; choose what they are, such as "
        "features=pca\n"
    )


def test_a_strategy_reads_them(tmp_path: Path) -> None:
    done = run(tmp_path, "features=pca", "features.dimensions=7")
    assert done.returncode == 0, done.stderr
    first, *_ = rounds(tmp_path)
    assert first["strategy"] == {"dimensions": 7}
    (folder,) = (tmp_path / "data" / "features").iterdir()
    assert folder.name.startswith("digits-pca-")
    features = np.load(folder / "features.npy")
    assert features.shape == (1297, 7)
    norms = np.linalg.norm(features, axis=1)[first["queried"]]
    assert norms.tolist() == sorted(norms, reverse=True)


@pytest.mark.parametrize("order", ["file", "class", "shuffled"])
@pytest.mark.parametrize(
    "imbalance", [["imbalance=none"], ["imbalance=long_tail", "imbalance.ratio=10"]]
)
def test_they_stay_with_their_images(
    tmp_path: Path, compose, order: str, imbalance: list[str]
) -> None:
    from fm_al.preparation import Experiment
    from tests.helpers.configs import resolved

    config = resolved(compose(f"dataset.order={order}", *imbalance, "features=pca"))
    data = load_data(Experiment.of(config), tmp_path, download=False)
    whole = load_data(Experiment.of(resolved(compose())), tmp_path, download=False)
    compute = PCA().fitted(whole.train.images, torch.device("cpu"))
    assert data.train.features is not None
    expected = compute(data.train.images).float()
    torch.testing.assert_close(data.train.features, expected, rtol=1e-4, atol=1e-5)
    assert len(data.train.features) == len(data.train)


def test_candidates_have_their_own(tmp_path: Path) -> None:
    from tests.helpers.synthetic import network_query

    query = network_query(torch.zeros(10, 1, 4, 4, dtype=torch.uint8), labelled=[2, 5])
    query._pool.features = torch.arange(10.0)[:, None]
    among = query.among(torch.tensor([8, 1]))
    assert among.features[:, 0].tolist() == [1, 2, 5, 8]


def test_they_are_computed_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, calls = PCA.fitted, []

    def counted(self: PCA, *arguments):
        calls.append(self)
        return fitted(self, *arguments)

    monkeypatch.setattr(PCA, "fitted", counted)
    for seed in (0, 1):
        assert run(tmp_path, "features=pca", f"seed={seed}").returncode == 0
    assert len(calls) == 1
    assert run(tmp_path, "features=pca", "features.normalize=true").returncode == 0
    assert len(calls) == 2
    assert len([*(tmp_path / "data" / "features").iterdir()]) == 2


def test_none_is_as_if_the_group_did_not_exist(tmp_path: Path) -> None:
    quick = [*DIGITS, "strategy=margin"]
    assert fm_al(tmp_path, *quick).returncode == 0
    (path,) = tmp_path.rglob("provenance.json")
    assert not [key for key in json.loads(path.read_text())["decides"] if "features" in key]
    assert path.parts[-3] == "budget.initial=10,budget.per_round=10,budget.total=20," + ",".join(
        sorted(each for each in quick if each.startswith("trainer"))
    )
    assert "finished already" in fm_al(tmp_path, *quick, "features=none").stdout
    assert not (tmp_path / "data").exists()


def test_others_are_part_of_the_run(tmp_path: Path) -> None:
    matrix = tmp_path / "matrix.npy"
    np.save(matrix, np.random.default_rng(0).normal(size=(1297, 3)))
    options = ["features=file", f"features.path={matrix}", "experiment_name=mine"]
    assert run(tmp_path, *options).returncode == 0
    (path,) = tmp_path.rglob("provenance.json")
    decides = json.loads(path.read_text())["decides"]
    assert decides["features"]["_target_"] == "fm_al.features.file.File"
    assert len(decides["features_content"]) == 64
    assert "features=file" in path.parts[-3]
    path.with_name("result.json").unlink()
    np.save(matrix, np.random.default_rng(1).normal(size=(1297, 3)))
    refused = run(tmp_path, *options)
    assert refused.returncode == 1
    assert "holds a run that differs in features_content (" in refused.stderr


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((1296, 3)), "has 1296 rows, and the data set's train split has 1297 images"),
        (np.zeros((1297, 3), int), "holds int64 of shape (1297, 3); it should hold float32 of sh"),
        (np.zeros(1297), "holds float64 of shape (1297,); it should hold float32 of shape (1297, "),
        (np.full((1297, 2), np.nan), "the features of image 0 are not finite"),
    ],
)
def test_a_matrix_that_does_not_fit_is_named(tmp_path: Path, matrix, message: str) -> None:
    np.save(tmp_path / "matrix.npy", matrix)
    refused = run(tmp_path, "features=file", f"features.path={tmp_path / 'matrix.npy'}")
    assert refused.returncode == 1
    assert message in refused.stderr
    missing = run(tmp_path, "features=file", "features.path=nowhere.npy")
    assert "fm-al: features.path=nowhere.npy: there is no /" in missing.stderr


def test_a_matrix_is_normalised_if_asked_for(tmp_path: Path) -> None:
    from fm_al.features.cache import _checked
    from fm_al.features.file import File

    matrix = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    np.save(tmp_path / "m.npy", matrix)
    given = File(path=str(tmp_path / "m.npy")).given(5000)
    assert torch.equal(_checked(given, False), torch.from_numpy(matrix))
    assert _checked(given, False).data_ptr() == given.data_ptr()
    torch.testing.assert_close(_checked(given, True).norm(dim=1), torch.ones(5000))
