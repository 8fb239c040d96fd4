from __future__ import annotations

import re
from pathlib import Path

import pytest

from fm_al.launch.run_directory import note_overrides, run_directory

LONGEST_FOLDER = 143  # characters that every file system of Linux takes
CHOICES = {"dataset": "digits", "imbalance": "none", "backbone": "cnn", "strategy": "badge"}
CONFIG = {"output_dir": "outputs", "experiment_name": "trial", "seed": 3}


def directory(*overrides: str) -> str:
    return run_directory(CONFIG, CHOICES, overrides).as_posix()


def test_the_path_names_what_was_composed() -> None:
    assert directory() == "outputs/trial/digits-none/cnn/badge/seed3"


def test_overrides_that_the_path_does_not_name_are_a_folder_sorted() -> None:
    assert directory("trainer=standard", "strategy=badge", "budget.total=40", "seed=3") == (
        "outputs/trial/digits-none/cnn/badge/budget.total=40,trainer=standard/seed3"
    )
    assert directory("dataset.order=class", "+strategy.k=2").split("/")[-2] == (
        "dataset.order=class,strategy.k=2"
    )


def test_places_device_and_tracker_are_not_in_the_path() -> None:
    assert directory(
        "device=cpu", "device.threads=1", "tracker=none", "data_dir=x", "output_dir=y",
        "download=false", "hydra.verbose=true", "hydra/launcher=basic", "experiment=demo",
    ) == directory()  # fmt: skip


@pytest.mark.parametrize(
    "default",
    ["features=none", "budget.start=random", "budget.growth=1", "budget.whole_pool=false",
     "trainer.sampling=uniform"],
)  # fmt: skip
def test_what_a_run_was_before_there_was_an_option_names_no_folder(default: str) -> None:
    assert directory(default) == directory()
    assert directory(default, "experiment=demo_all") != directory(), "whose value may be another"


def test_the_last_of_two_overrides_holds() -> None:
    assert directory("budget.total=40", "budget.total=50") == directory("budget.total=50")


@pytest.mark.parametrize(
    "override",
    [
        "dataset.root=../../../etc",
        "dataset.root=a b",
        f"strategy.x={'y' * 300}",
        f"strategy.{'y' * 190}=1",
        "backbone.widths=[16,32]",
    ],
)
def test_options_stay_one_folder_and_other_values_are_another_one(override: str) -> None:
    name = Path(directory(override)).parent
    assert name.parent.as_posix() == "outputs/trial/digits-none/cnn/badge"
    assert len(name.name) <= LONGEST_FOLDER
    assert "=" in name.name
    key, _, value = override.partition("=")
    other = f"{key}=[z,{value}]"
    assert name != Path(directory(other)).parent


def options_folder(*overrides: str) -> str:
    return Path(directory(*overrides)).parent.name


SWEPT = [
    "backbone.widths=[6,32,64]",
    "budget.initial=10",
    "budget.total=60",
    "dataset.root=/data/images",
    "imbalance.pool={3: 20, 8: 100}",
    "strategy.regularization=0.1",
    "trainer.optimizer.lr=1e-3",
    "trainer=standard",
]


def test_a_cut_name_shows_what_is_likely_to_be_swept_first_and_readably() -> None:
    name, _, digest = options_folder(*SWEPT).rpartition("-")
    assert name == (
        "regularization=0.1,trainer=standard,lr=0.001,root=data-images,pool=3-20,8-100,"
        "widths=6,32,64,initial=10,total=60"
    )
    assert re.fullmatch("[0-9a-f]{8}", digest)


def test_a_cut_name_depends_on_the_overrides_alone() -> None:
    assert options_folder(*reversed(SWEPT), "seed=3") == options_folder(*SWEPT)
    for override in SWEPT[1:]:
        others = [each for each in SWEPT if each != override]
        assert options_folder(*others) != options_folder(*SWEPT)


def test_long_values_keep_their_two_ends_and_what_does_not_fit_is_counted() -> None:
    widths = f"backbone.widths={list(range(10, 30))}".replace(" ", "")
    assert options_folder(widths).startswith("widths=10,11,12,13..26,27,28,29-")
    many = [f"strategy.option_{letter}={letter * 20}" for letter in "abcdefgh"]
    name = options_folder(*many)
    assert re.fullmatch(r"(option_\w=\w{20},){4}and-4-more-[0-9a-f]{8}", name)


def test_keys_that_end_alike_keep_what_they_differ_in() -> None:
    name = options_folder("strategy.augment=true", "trainer.augment=true", "backbone.widths=[1]")
    assert name.startswith("strategy.augment=True,trainer.augment=True,widths=1-")


def test_what_a_name_has_cut_is_listed_beside_the_runs(tmp_path: Path) -> None:
    run = tmp_path / options_folder(*SWEPT) / "seed3"
    note_overrides(run, SWEPT)
    assert list(tmp_path.iterdir()) == []  # nothing before the run has a directory
    run.mkdir(parents=True)
    for _ in range(2):
        note_overrides(run, [*SWEPT, "seed=3", "tracker=none"])
    assert (run.parent / "overrides.yaml").read_text().splitlines() == [
        "strategy.regularization: 0.1",
        "trainer: standard",
        "trainer.optimizer.lr: 0.001",
        "dataset.root: /data/images",
        "imbalance.pool: {3: 20, 8: 100}",
        "backbone.widths: [6, 32, 64]",
        "budget.initial: 10",
        "budget.total: 60",
    ]


def test_a_name_that_is_whole_needs_no_list(tmp_path: Path) -> None:
    for overrides in ([], ["budget.total=60", "trainer=standard"]):
        run = tmp_path / options_folder(*overrides) / "seed3"
        run.mkdir(parents=True)
        note_overrides(run, overrides)
    assert not list(tmp_path.rglob("overrides.yaml"))


def test_a_list_that_can_not_be_written_is_a_warning(tmp_path: Path, caplog) -> None:
    run = tmp_path / options_folder(*SWEPT) / "seed3"
    run.mkdir(parents=True)
    (run.parent / "overrides.yaml").mkdir()
    note_overrides(run, SWEPT)
    assert "overrides.yaml can't be written" in caplog.text


def test_a_run_resumes_in_the_folder_that_an_earlier_version_named(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["backbone.widths=[16,32]", "budget.total=60"]
    now = directory(*overrides)
    earlier = Path(now).parent.with_name("backbone.widths=-16,32-,budget.total=60-7588146c")
    earlier.mkdir(parents=True)
    assert directory(*overrides) == f"{earlier}/seed3"
    assert directory(*overrides, "trainer=standard") not in (f"{earlier}/seed3", now)


def test_a_name_that_an_earlier_version_cut_twice_is_found_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [
        "strategy.regularization=0.01",
        "strategy.regularization_scale=information",
        "strategy.pool_fisher=soft_class_balanced",
        "strategy.temperature=1",
    ]
    earlier = Path(directory(*overrides)).parent.with_name(
        "strategy.pool_fisher=soft_class_balanced,strategy.regularization=0.01,"
        "strategy.regularization_scale=information,strategy-b27a067b"
    )
    earlier.mkdir(parents=True)
    assert directory(*overrides) == f"{earlier}/seed3"
