from __future__ import annotations

import itertools
import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from fm_al.config import build
from fm_al.errors import ConfigError, MethodError, RunError
from fm_al.experiment import run_rounds
from fm_al.launch.planning import planned_run
from fm_al.planned_run import PlannedRun
from fm_al.preparation import initial_labels, load_data, preflight
from fm_al.progress import RunProgress
from fm_al.records.result import ADDED_METRICS
from fm_al.records.schema import Result
from fm_al.records.writing import open_run
from fm_al.starts.random import RandomStart
from fm_al.strategies.base import Query, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.random import Random
from tests.helpers.command_line import fm_al
from tests.helpers.configs import names
from tests.helpers.made_records import without_digests, without_times
from tests.helpers.real_data import folder_with

QUICK = (
    "backbone=linear",
    "tracker=none",
    "trainer.max_epochs=3",
    "trainer.optimizer.lr=0.01",
    "budget.initial=10",
    "budget.per_round=10",
    "budget.total=40",
)


def ran(compose, *overrides: str) -> Path:
    """Runs what is missing of an experiment; its directory."""
    composed = compose(*QUICK, *overrides)
    planned = planned_run(composed, composed.hydra.runtime.choices, [*QUICK, *overrides])
    result_of(planned, Path(composed.output_dir))
    return planned.directory


def result_of(planned: PlannedRun, data_dir: Path) -> Result:
    """Runs what is missing of a run."""
    experiment = planned.experiment
    experiment.device.set_up()
    data = load_data(experiment, data_dir, download=False)
    preflight(experiment, data)
    with (
        open_run(planned.directory, {}, planned.result_config, [], []) as records,
        RunProgress(Console(quiet=True), experiment.budget.schedule(len(data.train))) as progress,
    ):
        return run_rounds(
            experiment,
            data,
            initial_labels(experiment, data),
            records,
            build(planned.config["tracker"]),
            progress,
        )


def test_a_run_labels_its_budget_and_records_every_round(compose) -> None:
    rounds, result = without_times(ran(compose, "strategy=margin", "budget.total=35"))
    assert [record["labelled"] for record in rounds] == [10, 20, 30, 35]
    assert [len(record["queried"]) for record in rounds] == [10, 10, 5, 0]
    queried = [index for record in rounds for index in record["queried"]]
    assert len(set(queried)) == 25
    for record, after in itertools.pairwise(rounds):
        added = [
            b - a
            for a, b in zip(record["labelled_classes"], after["labelled_classes"], strict=True)
        ]
        assert added == record["queried_classes"]
    assert result["accuracy"] == rounds[-1]["accuracy"]
    assert result["labelled"] == 35
    confusion = torch.tensor(result["confusion_matrix"])
    assert confusion.diag().sum() / confusion.sum() == pytest.approx(result["accuracy"])
    assert len(result["class_names"]) == 10
    assert "confusion_matrix" not in rounds[0]


def test_the_same_seed_gives_the_same_records_and_another_seed_others(compose) -> None:
    first = ran(compose, "experiment_name=a")
    torch.rand(3)
    again = ran(compose, "experiment_name=b")
    other = ran(compose, "experiment_name=c", "seed=1")
    assert without_times(first) == without_times(again)
    assert without_times(first) != without_times(other)


def test_every_strategy_of_a_seed_starts_from_the_same_images(compose, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "fm_al.training.Trainer.fit",
        lambda _, __, pool, *___: seen.append(pool.labelled.tolist()) or pytest.fail("seen"),
    )
    for overrides in (["strategy=random"], ["strategy=badge"], ["backbone=mlp"], ["seed=1"]):
        with pytest.raises(pytest.fail.Exception):
            ran(compose, *overrides)
    assert seen[0] == seen[1] == seen[2] != seen[3]


@pytest.mark.parametrize("reset", ["all", "weights", "none"])
@pytest.mark.parametrize("rounds_left", [0, 1, 3])
def test_going_on_equals_never_having_stopped(compose, reset: str, rounds_left: int) -> None:
    """After a kill there are the records of finished rounds and, where the next round needs it,
    the network of the last; here the run is stopped by an error in a later round's training."""
    overrides = ["strategy=badge", f"trainer.reset={reset}", "backbone=cnn"]
    whole = ran(compose, *overrides, "experiment_name=whole")
    original, calls = RunProgress.stage, []

    def stop(self: RunProgress, doing: str) -> None:
        calls.append(doing)
        if calls.count("train") == rounds_left + 1:
            raise KeyboardInterrupt
        original(self, doing)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunProgress, "stage", stop)
        with pytest.raises(KeyboardInterrupt):
            ran(compose, *overrides, "experiment_name=parts")
    parts = ran(compose, *overrides, "experiment_name=parts")
    assert without_times(parts) == without_times(whole)
    assert not list(parts.glob("*.pt"))


def test_a_finished_run_is_not_run_again(compose, monkeypatch) -> None:
    directory = ran(compose)
    before = without_times(directory)
    monkeypatch.setattr("fm_al.training.Trainer.fit", lambda *_: pytest.fail("trained again"))
    assert without_times(ran(compose)) == before


@pytest.mark.parametrize("rounds", [2, 4])
def test_a_run_begun_before_a_metric_was_added_resumes(compose, rounds: int) -> None:
    """The result repeats the last round, and lacks what that lacks."""
    directory = ran(compose)
    (directory / "result.json").unlink()
    lines = [json.loads(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]
    old = [without_digests(line) for line in lines[:rounds]]
    for line in old:
        for name in ADDED_METRICS:
            del line[name]
    (directory / "rounds.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in old))
    ran(compose)
    resumed = [json.loads(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]
    result = json.loads((directory / "result.json").read_text())
    assert [set(ADDED_METRICS) <= set(line) for line in resumed] == [
        number >= rounds for number in range(4)
    ]
    there = {name: resumed[-1][name] for name in ADDED_METRICS if name in resumed[-1]}
    assert {name: result[name] for name in ADDED_METRICS if name in result} == there
    assert len(there) == (3 if rounds < 4 else 0)


def test_records_that_label_an_image_twice_are_damaged(compose) -> None:
    directory = ran(compose)
    (directory / "result.json").unlink()
    # As an earlier version wrote them: nothing vouches for what they say.
    lines = [
        json.dumps(without_digests(json.loads(line))) + "\n"
        for line in (directory / "rounds.jsonl").read_text().splitlines()
    ]
    record = json.loads(lines[1]) | {"queried": json.loads(lines[0])["queried"]}
    (directory / "rounds.jsonl").write_text(lines[0] + json.dumps(record) + "\n")
    with pytest.raises(RunError, match=r"rounds.jsonl: line 2 is damaged .*labelled.*cut the file"):
        ran(compose)
    for queried, wrong in (([1], "10 images to query"), ([10**6] * 10, "out of bounds")):
        record["queried"] = queried
        (directory / "rounds.jsonl").write_text(lines[0] + json.dumps(record) + "\n")
        with pytest.raises(RunError, match=rf"line 2 is damaged .*{wrong}"):
            ran(compose)
    more = json.loads(lines[-1]) | {"round": 4}
    (directory / "rounds.jsonl").write_text("".join(lines) + json.dumps(more) + "\n")
    with pytest.raises(RunError, match=r"line 5 is damaged .the budget has 4 rounds"):
        ran(compose)


def test_an_image_folder_that_changed_after_its_run_is_another_run(compose, tmp_path: Path) -> None:
    root = tmp_path / "images"
    for split in ("train", "test"):
        for value, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(20):
                image = Image.new("L", (8, 8), 100 * value + number)
                image.save(folder / f"{number}.png")
    options = [
        "dataset=image_folder", f"dataset.root={root}", "dataset.size=8", "dataset.channels=1",
        "dataset.crop_padding=0", f"data_dir={tmp_path / 'data'}", *QUICK, "budget.total=20",
        f"output_dir={tmp_path / 'outputs'}", "device=cpu", "device.threads=1",
    ]  # fmt: skip
    assert fm_al(tmp_path, *options).returncode == 0
    assert "finished already" in fm_al(tmp_path, *options).stdout
    (root / "train" / "dog" / "3.png").unlink()
    changed = fm_al(tmp_path, *options)
    assert changed.returncode == 1
    assert "differs in dataset_content" in changed.stderr
    shutil.rmtree(root)
    assert "finished already" in fm_al(tmp_path, *options).stdout, "elsewhere, without the images"


@dataclass(frozen=True, kw_only=True)
class Recording(CandidateOptions, Strategy):
    """Keeps what it is shown."""

    augment: bool = False

    def select(self, query, n, generator):
        images = torch.arange(30)
        query.record("shown", query.images(images).sum().item())
        query.record(3, (1, 2))
        embeddings = query.model.embed(query.images(images))
        torch.testing.assert_close(embeddings, query.embeddings[:30], rtol=1e-4, atol=1e-5)
        return query.unlabelled[:n]


def test_a_strategy_that_asks_for_it_is_shown_images_as_in_training(compose) -> None:
    """Others in each round, the same where a round is replayed."""
    options = [
        *("strategy=margin", "strategy._target_=tests.test_experiment.Recording"),
        *("dataset.crop_padding=2", "backbone=cnn", "trainer.max_epochs=1"),
    ]

    def shown(*more: str) -> list[Any]:
        rounds, _ = without_times(ran(compose, *options, *more))
        return [record["strategy"] for record in rounds[:2]]

    plain, augmented = shown(), shown("strategy.augment=true")
    assert augmented == shown("strategy.augment=true", "experiment_name=again")
    assert plain[0]["3"] == [1, 2], "as JSON has it"
    assert plain[0]["shown"] == plain[1]["shown"]
    assert len({record["shown"] for record in [*augmented, plain[0]]}) == 3


@dataclass(frozen=True, kw_only=True)
class Wrong(CandidateOptions, Strategy):
    """Breaks the contract in a way of its choice."""

    way: str

    def select(self, query, n, generator):
        unlabelled = query.unlabelled[:n]
        return {
            "few": unlabelled[1:],
            "float": unlabelled.float(),
            "twice": unlabelled[[0, *range(n - 1)]],
            "labelled": query.labelled[:n],
            "outside": unlabelled + 10**6,
        }[self.way]


@pytest.mark.parametrize(
    ("way", "wrong"),
    [
        ("few", r"shape \(9,\)"),
        ("float", "torch.float32"),
        ("twice", "1 indices twice"),
        ("labelled", "labelled already"),
        ("outside", "not in the pool"),
    ],
)
def test_picks_that_break_the_contract_are_refused_and_not_recorded(compose, way, wrong) -> None:
    broken = [
        "strategy=random",
        "+strategy.way=" + way,
        "strategy._target_=tests.test_experiment.Wrong",
    ]
    with pytest.raises(RunError, match=f"Wrong.select returned .*{wrong}"):
        ran(compose, *broken)
    (folder,) = Path(compose().output_dir).glob("default/*/*/*/*/seed0")
    assert not (folder / "rounds.jsonl").exists()


@dataclass(frozen=True, kw_only=True)
class Asking(CandidateOptions, Strategy):
    """Picks the last unlabelled images; asks for the classes of some of its picks first.

    Attributes:
        asked: How many of each batch it asks for, the last of them first.
        forgets: Whether it then leaves one of them out.
    """

    asked: int
    forgets: bool = False

    def select(self, query, n, generator):
        picks = query.unlabelled[-n:]
        for pick in picks.flip(0)[: self.asked].split(1):
            query.reveal(pick)
        query.record("classes", query.reveal(picks[:0]).tolist())
        return query.unlabelled[: len(picks)] if self.forgets else picks


def asking(asked: int, *more: str) -> list[str]:
    target = "strategy._target_=tests.test_experiment.Asking"
    return ["strategy=random", f"+strategy.asked={asked}", target, *more]


def test_revealed_images_are_labelled_first_in_the_order_of_asking(compose) -> None:
    plain, _ = without_times(ran(compose, *asking(0), "budget.total=20"))
    rounds, _ = without_times(ran(compose, *asking(3), "budget.total=20"))
    batch = plain[0]["queried"]
    assert batch == sorted(batch)
    assert rounds[0]["queried"] == [*batch[:-4:-1], *batch[:-3]]
    assert rounds[0]["queried_classes"] == plain[0]["queried_classes"]


def test_a_revealed_image_that_is_not_picked_is_refused(compose) -> None:
    with pytest.raises(RunError, match="10 images without 2 of the 2 that it had revealed"):
        ran(compose, *asking(2, "+strategy.forgets=true"))


def test_more_than_a_round_labels_is_not_revealed(compose, monkeypatch) -> None:
    def greedy(self: Strategy, query: Query, n: int, _: torch.Generator) -> torch.Tensor:
        query.reveal(query.unlabelled[: n + 1])
        return query.unlabelled[:n]

    monkeypatch.setattr(Random, "select", greedy)
    with pytest.raises(MethodError, match="reveal: 11 images; the round labels 10"):
        ran(compose, "strategy=random")


@pytest.mark.parametrize("kept", [0, 1])
def test_a_run_that_reveals_resumes_to_the_same_records(compose, kept: int) -> None:
    options = asking(4, "strategy.max_candidates=30", "budget.total=40")
    directory = ran(compose, *options)
    whole = without_times(directory)
    lines = (directory / "rounds.jsonl").read_text().splitlines(keepends=True)
    (directory / "result.json").unlink()
    (directory / "rounds.jsonl").write_text("".join(lines[:kept]))
    assert ran(compose, *options) == directory
    assert without_times(directory) == whole


def test_queries_grow_as_the_budget_says(compose) -> None:
    options = ["strategy=margin", "budget.per_round=[5,10]", "budget.growth=2", "budget.total=60"]
    rounds, result = without_times(ran(compose, *options))
    assert [record["labelled"] for record in rounds] == [10, 15, 25, 45, 60]
    assert result["labelled"] == 60


def test_the_whole_pool_is_one_round_without_a_query(compose) -> None:
    directory = ran(compose, "strategy=random", "budget.whole_pool=true")
    (record,), result = without_times(directory)
    assert (record["labelled"], record["queried"]) == (1297, [])
    assert result["accuracy"] == record["accuracy"] > 0.5


def test_what_the_whole_pool_makes_no_use_of_is_not_refused(compose) -> None:
    whole = ["budget.whole_pool=true", "budget.total=5", "budget.start=kmeans"]
    for strategy in ("strategy=typiclust", "strategy=fishermask"):
        run = ran(compose, *whole, strategy, *["strategy.fraction=1e-6"] * ("mask" in strategy))
        assert without_times(run)[1]["labelled"] == 1297


@pytest.mark.parametrize("start", sorted(names("start")))
def test_a_run_of_every_start_resumes_to_the_same_records(compose, start: str) -> None:
    options = ["strategy=margin", f"budget.start={start}", "features=pca"]
    directory = ran(compose, *options)
    whole = without_times(directory)
    lines = (directory / "rounds.jsonl").read_text().splitlines(keepends=True)
    (directory / "result.json").unlink()
    (directory / "rounds.jsonl").write_text(lines[0])
    assert ran(compose, *options) == directory
    assert without_times(directory) == whole
    assert [record["labelled"] for record in whole[0]] == [10, 20, 30, 40]


def test_a_start_that_is_not_that_of_the_records_is_damage(compose, monkeypatch) -> None:
    directory = ran(compose, "strategy=margin")
    lines = (directory / "rounds.jsonl").read_text().splitlines(keepends=True)
    (directory / "result.json").unlink()
    (directory / "rounds.jsonl").write_text(lines[0])
    queried = json.loads(lines[0])["queried"]
    others = [index for index in range(1297) if index not in queried][:10]
    monkeypatch.setattr(RandomStart, "choose", lambda *_: torch.tensor(others))
    with pytest.raises(RunError, match=r"line 1 .*labelled_classes: should be \["):
        ran(compose, "strategy=margin")


@pytest.mark.parametrize(
    ("returned", "wrong"),
    [
        (None, "None"),
        ([0, 1], "an object of <class 'list'>"),
        (torch.arange(9), r"shape \(9,\)"),
        (torch.arange(10.0), "torch.float32"),
        (torch.arange(10) // 2, "5 indices twice"),
        (torch.arange(10) + 1290, "not in the pool"),
    ],
)
def test_what_a_start_may_not_return_is_refused(compose, monkeypatch, returned, wrong) -> None:
    monkeypatch.setattr(RandomStart, "choose", lambda *_: returned)
    with pytest.raises(RunError, match=f"RandomStart.choose returned .*{wrong}"):
        ran(compose, "strategy=random")


def test_the_first_labels_of_a_seed_stay_what_they_were(compose) -> None:
    composed = compose(*QUICK)
    experiment = planned_run(composed, composed.hydra.runtime.choices, []).experiment
    data = load_data(experiment, Path("unused"), download=False)
    assert initial_labels(experiment, data).tolist() == [
        232, 829, 1069, 1173, 864, 1199, 685, 437, 611, 1023,
    ]  # fmt: skip


def test_a_start_is_the_same_for_all_strategies_and_paired_by_seed(compose, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "fm_al.training.Trainer.fit",
        lambda _, __, pool, *___: seen.append(pool.labelled.tolist()) or pytest.fail("seen"),
    )
    for overrides in (
        ["strategy=random", "budget.start=balanced"],
        ["strategy=badge", "budget.start=balanced", "backbone=mlp"],
        ["strategy=random", "budget.start=stratified"],
        ["strategy=random", "budget.start=random"],
        ["strategy=random"],
    ):
        with pytest.raises(pytest.fail.Exception):
            ran(compose, *overrides, f"experiment_name=number{len(seen)}")
    assert seen[0] == seen[1] != seen[2] != seen[3] == seen[4]


def test_a_balanced_start_is_that_in_the_records(compose) -> None:
    directory = ran(compose, "budget.start=balanced", "strategy=random", "budget.total=20")
    rounds, _ = without_times(directory)
    assert rounds[0]["labelled_classes"] == [1] * 10


def test_a_query_does_not_give_the_classes_of_the_pool_away(compose) -> None:
    seen = set()

    def curious(self: Strategy, query: Query, n: int, _: torch.Generator) -> torch.Tensor:
        seen.update(name for name in dir(query) if not name.startswith("_"))
        query.labelled.zero_()
        return query.unlabelled[:n]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Random, "select", curious)
        ran(compose, "strategy=random")
    assert seen == {
        "among", "autocast", "batch_size", "classes", "device", "embeddings", "features", "images",
        "labelled", "labelled_targets", "logits", "model", "pool_indices", "probabilities",
        "record", "recorded", "reveal", "revealed", "revealed_targets", "scores", "sizes", "take",
        "unlabelled",
    }  # fmt: skip


@pytest.mark.parametrize("imbalance", ["paper", "counts", "step", "long_tail"])
def test_a_run_of_any_imbalance_is_found_again(compose, imbalance: str) -> None:
    options = {
        "paper": ["imbalance.pool={0: 20, 1: 60, 2: 20, 3: 20}", "imbalance.test=40"],
        "counts": ["imbalance.pool={3: 20, 1: 60}", "imbalance.test={1: 20, 3: 20}"],
    }
    overrides = [f"imbalance={imbalance}", *options.get(imbalance, [])]
    directory = ran(compose, *overrides)
    assert ran(compose, *overrides) == directory
    composed = compose(*QUICK, *overrides)
    planned = planned_run(composed, composed.hydra.runtime.choices, [*QUICK, *overrides])
    assert planned.result() is not None


def test_a_backbone_that_the_images_do_not_fit_is_known_before_anything_is_made(compose) -> None:
    with pytest.raises(ConfigError, match=r"backbone=vgg16: .* dataset.pad_to=32"):
        ran(compose, "backbone=vgg16")
    assert not Path(compose().output_dir).exists()


def test_an_untrained_network_can_query_first(compose) -> None:
    directory = ran(compose, "budget.train_before_first_query=false", "strategy=entropy")
    rounds, _ = without_times(directory)
    assert [record["epochs"] for record in rounds] == [0, 3, 3, 3]


def test_a_pool_sorted_by_class_holds_the_same_images(compose) -> None:
    def data(*overrides: str):
        composed = compose("imbalance=step", "imbalance.minority_classes=[3]", *overrides)
        planned = planned_run(composed, composed.hydra.runtime.choices, [])
        return load_data(planned.experiment, Path("unused"), download=False)

    stored, by_class = data(), data("dataset.order=class")
    assert not torch.equal(stored.train.targets, by_class.train.targets)
    assert torch.equal(stored.train.targets.sort().values, by_class.train.targets)
    assert stored.train.images.sum() == by_class.train.images.sum()
    assert torch.equal(stored.test.images, by_class.test.images)


def test_a_budget_that_the_data_can_not_fill_is_known_before_training(compose) -> None:
    with pytest.raises(ConfigError, match=r"budget.total=5000: the pool has 1297 images"):
        ran(compose, "budget.total=5000")


def test_the_last_query_can_empty_the_pool(compose) -> None:
    rounds, _ = without_times(
        ran(compose, "budget.initial=1290", "budget.total=1297", "trainer.batch_size=500")
    )
    assert [record["labelled"] for record in rounds] == [1290, 1297]


def class_accuracies_at_155_labels(compose, *overrides: str) -> list[float]:
    composed = compose(
        "strategy=random",
        "tracker=none",
        "budget.initial=155",
        "budget.per_round=70",
        "budget.total=155",
        *overrides,
    )
    planned = planned_run(composed, composed.hydra.runtime.choices, [])
    return result_of(planned, Path(planned.config["data_dir"])).per_class_accuracy


@pytest.mark.slow
def test_the_papers_network_learns_the_papers_imbalance_from_155_labels(compose) -> None:
    """Four classes, chance is 0.25, which running statistics of batch norm would give."""
    data_dir = folder_with("FashionMNIST/raw")
    overrides = ["dataset=fashion_mnist", "imbalance=paper", f"data_dir={data_dir}"]
    recomputed = class_accuracies_at_155_labels(compose, *overrides)
    assert statistics.fmean(recomputed) > 0.5
    assert min(recomputed) > 0.1
    running = ["trainer.batch_norm=running", "experiment_name=running"]
    assert statistics.fmean(class_accuracies_at_155_labels(compose, *overrides, *running)) < 0.4


def test_the_papers_network_learns_imbalanced_digits_from_155_labels(compose) -> None:
    overrides = ["imbalance=counts", "imbalance.pool={0: 12, 1: 120, 2: 12, 3: 12}"]
    accuracies = class_accuracies_at_155_labels(compose, *overrides)
    assert statistics.fmean(accuracies) > 0.6
    assert min(accuracies) > 0.1


LIMITED = dict.fromkeys(names("strategy"), "strategy.max_candidates=30") | {
    "fishermask_entropy": "strategy.fishermask.max_candidates=30"
}


@pytest.mark.parametrize("strategy", names("strategy"))
def test_a_run_with_few_candidates_resumes_and_records_them(compose, strategy: str) -> None:
    options = [f"strategy={strategy}", LIMITED[strategy], "budget.total=30", "features=pca"]
    directory = ran(compose, *options)
    whole = without_times(directory)
    assert [record["strategy"].get("candidates") for record in whole[0]] == [30, 30, None]
    lines = (directory / "rounds.jsonl").read_text().splitlines()
    (directory / "result.json").unlink()
    (directory / "rounds.jsonl").write_text(lines[0] + "\n")
    assert ran(compose, *options) == directory
    assert without_times(directory) == whole


def test_where_images_are_kept_changes_neither_a_run_nor_its_place(compose) -> None:
    directory = ran(compose, "strategy=margin", "device.pool=host")
    finished = (directory / "result.json").read_bytes()
    assert ran(compose, "strategy=margin", "device.pool=device") == directory
    assert (directory / "result.json").read_bytes() == finished


def test_a_query_that_needs_too_much_memory_stops_the_run(
    compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_al.fisher.memory.available_memory", lambda _: 2**16)
    message = (
        "^this query needs .* GiB, cpu has .* GiB: embeddings, 1,297 x 64 .* GiB, .*; "
        "set strategy.max_candidates to score fewer images, or use a device with more memory$"
    )
    with pytest.raises(RunError, match=message):
        ran(compose, "strategy=badge")
    with pytest.raises(RunError, match=r"; lower strategy\.max_candidates=1000 to"):
        ran(compose, "strategy=badge", "strategy.max_candidates=1000", "experiment_name=b")
