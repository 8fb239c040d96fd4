"""Values of options that can't be: one line that names the key, and no traceback."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest
from submitit.core.job_environment import SignalHandler

from fm_al.config import check_node
from fm_al.device import available_memory, require_memory
from fm_al.errors import ConfigError, MethodError, RunError, errors_named
from tests.helpers.command_line import fm_al, fm_al_process

QUICK = [
    "device.threads=1",
    "tracker=none",
    "backbone=linear",
    "trainer.max_epochs=3",
    "strategy=random",
    "budget.initial=10",
    "budget.per_round=10",
    "budget.total=20",
]
HUGE = "99999999999999999999999"
NO_64_BITS = f"={HUGE}: should be at most 9223372036854775807, the largest 64-bit integer"
NO_32_BITS = "should be at most 3.4e+38, the largest 32-bit float"
INTEGERS = {
    "trainer.batch_size": [],
    "trainer.max_epochs": [],
    "device.threads": [],
    "device.scoring_batch_size": [],
    "dataset.pad_to": [],
    "dataset.crop_padding": [],
    "budget.initial": [],
    "budget.per_round": [],
    "budget.total": [],
    "seed": [],
    "strategy.mask_images": ["strategy=fishermask"],
    "strategy.max_candidates": ["strategy=bait"],
    "strategy.top_classes": ["strategy=bait"],
    "strategy.fishermask.max_candidates": ["strategy=fishermask_entropy"],
    "strategy.samples": ["strategy=bald"],
    "strategy.iterations": ["strategy=kmeans"],
    "backbone.width": ["backbone=resnet18"],
    "backbone.resize_to": ["backbone=torchvision"],
    "imbalance.ratio": ["imbalance=step"],
    "hydra.sweeper.max_jobs": ["-m"],
    "hydra.launcher.runs_at_once": ["-m", "hydra/launcher=local"],
}
NUMBERS = {
    "strategy.regularization": ["strategy=bait"],
    "strategy.oversampling": ["strategy=bait"],
    "strategy.temperature": ["strategy=bait"],
    "strategy.memory_limit_gib": ["strategy=fishermask"],
    "strategy.fishermask.regularization": ["strategy=fishermask_entropy"],
    "trainer.optimizer.lr": [],
    "trainer.optimizer.weight_decay": [],
    "trainer.clamp_gradients": [],
    "imbalance.ratio": ["imbalance=long_tail"],
    "tracker.init_timeout": ["tracker=wandb"],
    "tracker.finish_timeout": ["tracker=wandb"],
}
KINDS = {
    "dataset": "fm_al.data.base.Dataset",
    "imbalance": "fm_al.data.base.Imbalance",
    "features": "fm_al.features.base.Extractor",
    "backbone": "fm_al.backbones.base.Backbone",
    "strategy": "fm_al.strategies.base.Strategy",
    "trainer": "fm_al.training.Trainer",
    "trainer.optimizer": "torch.optim.optimizer.Optimizer",
    "device": "fm_al.device.Device",
    "tracker": "fm_al.tracking.Tracker",
}


def refused(folder: Path, *arguments: str) -> str:
    """The line that `fm-al` ends with, exit code 2, having made nothing."""
    done = fm_al(folder, *QUICK, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("fm-al: ")
    assert done.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []
    return done.stderr.removeprefix("fm-al: ").strip()


@pytest.mark.parametrize("key", INTEGERS)
def test_integers_beyond_64_bits_are_refused(key: str, tmp_path: Path) -> None:
    line = refused(tmp_path, *INTEGERS[key], f"{key}={HUGE}")
    assert line == f"{key}{NO_64_BITS}"


def test_an_integer_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "long.yaml").write_text(
        f"defaults: [paper, _self_]\nmax_epochs: 0x{'f' * 5000}\n"
    )
    done = fm_al(tmp_path, *QUICK[:3], *QUICK[4:], f"--config-dir={tmp_path}", "trainer=long")
    assert done.returncode == 2
    assert re.match(r"fm-al: trainer\.max_epochs=.* thousands of digits.*: should", done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_that_are_not_finite_or_beyond_32_bits_are_refused(
    key: str, tmp_path: Path
) -> None:
    for value, shown in (("inf", "Infinity"), ("-inf", "-Infinity"), ("nan", "NaN")):
        line = refused(tmp_path, *NUMBERS[key], f"{key}={value}")
        assert line.startswith(f"{key}={shown}: should be ")
    assert refused(tmp_path, *NUMBERS[key], f"{key}=1e300") == f"{key}=1e+300: {NO_32_BITS}"


@pytest.mark.parametrize("key", KINDS)
def test_a_target_of_another_kind_is_refused(key: str, tmp_path: Path) -> None:
    for target in ("builtins.dict", "os.getcwd"):
        line = refused(tmp_path, f"{key}._target_={target}")
        assert line == f"{key}._target_={target}: should be a class derived from {KINDS[key]}"
    for target in ("..", "", "dict"):
        line = refused(tmp_path, f"{key}._target_={target}")
        assert line.startswith(f"{key}._target_={target}: should be a class with its module")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["strategy=null"], r"strategy=null: should be the name of "),
        (["strategy=5"], r"strategy=5: .* badge, bait, balanced, bald, "),
        (["-m", "strategy=random,5"], r"strategy=.*5: .* badge, bait, balanced, bald, "),
        (["-m", "hydra/launcher=5"], r"hydra/launcher=5: .* slurm"),
        (["strategy._target_=fm_al.strategies.base.Strategy"], "is abstract; .* that has select$"),
        (["strategy._target_=nowhere.Mine"], r"can't be imported \(ModuleNotFoundError: No mod"),
        (["strategy._target_=os.nothing"], r"can't be imported \(AttributeError: module 'os' ha"),
        (["++strategy._partial_=true"], r"strategy\._partial_=true: should be left out"),
        (["++strategy._partial_=5"], r"strategy\._partial_=5: should be left out"),
        (["trainer.optimizer=null"], r"trainer\.optimizer=null: should be a mapping with a _targ"),
        (["backbone=mlp", f"backbone.hidden=[8,{HUGE}]"], r"hidden=.*: \[1\] should be at most 9"),
        (
            ["imbalance=counts", f"imbalance.pool={{0: {HUGE}, 1: 5}}"],
            r"imbalance\.pool=.*: \[0\] should be at most 9223372036854775807",
        ),
        (["trainer.optimizer.betas=[0.9,inf]"], r"betas=.*: \[1\] should be a finite number"),
        (["seed=-99999999999999999999"], "seed=-9*: should be at least -9223372036854775807"),
        (["device.threads=3000"], "device.threads=3000: should be less than or equal to 1024"),
        (["backbone=resnet18", "backbone.depths=[100000000]"], r"depths=.*\[0\] should be less"),
        (["backbone=torchvision", "backbone.resize_to=100000"], r"resize_to=100000: .* 4096"),
        (["strategy=bald", "strategy.samples=1000000000"], "samples=.*less than or equal to 1000"),
        (["tracker=wandb", "tracker.finish_timeout=1e30"], "finish_timeout=.* equal to 86400"),
        (["dataset.crop_padding=9"], "dataset.crop_padding=9: should be at most 8, the images' s"),
        (
            ["dataset.crop_padding=1000000000", "dataset.pad_to=12"],
            "crop_padding=1000000000: should be at most 12",
        ),
        (
            ["-m", "hydra/launcher=local", "hydra.launcher.runs_at_once=2000"],
            "runs_at_once=2000: should be less than or equal to 1024",
        ),
        (
            ["strategy=bait", "strategy.max_candidates=9"],
            r"^strategy\.max_candidates=9: should be at least 10, the images to pick in a query",
        ),
        (
            ["strategy=coreset", "strategy.max_candidates=9"],
            r"^strategy\.max_candidates=9: should be at least 10, the images to pick in a query",
        ),
        (["strategy=random", "strategy.max_candidates=0"], "max_candidates=0: should be greater"),
        (["device.pool=disk"], "device.pool=.?disk"),
        (
            ["-m", "strategy=fishermask", "strategy.max_candidates=9"],
            r"^strategy\.max_candidates=9: should be at least 10",
        ),
        (
            ["strategy=fishermask_entropy", "strategy.fishermask.max_candidates=4"],
            r"^strategy\.fishermask\.max_candidates=4: should be at least 5",
        ),
    ],
)
def test_what_can_not_be_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert re.search(message, refused(tmp_path, *arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["trainer.batch_size=9223372036854775807", "device.scoring_batch_size=9223372036854775807"],
        ["strategy=bait", "strategy.regularization=3e38", "strategy.memory_limit_gib=3e38"],
        ["strategy=bait", "strategy.max_candidates=5", "budget.per_round=5"],
        ["strategy=bait", "strategy.max_candidates=1", "budget.total=10"],
        ["strategy=bait", "strategy.max_candidates=2", "budget.total=12"],
        ["budget.per_round=9223372036854775807"],
        ["dataset.crop_padding=8"],
    ],
)
def test_what_is_odd_and_can_be_runs(arguments: list[str], tmp_path: Path) -> None:
    done = fm_al(tmp_path, *QUICK, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset.pad_to=1000000"], r"dataset\.pad_to=1000000: padding the images needs .* GiB"),
        (["dataset.pad_to=4000000000"], r"dataset\.pad_to=4000000000: padding the images needs "),
        (
            ["backbone=mlp", "backbone.hidden=[1000000000000]"],
            r"backbone: .* 75,000,000,000,010 weights needs .*; lower backbone\.hidden=\[10000",
        ),
        (
            ["backbone=mlp", "backbone.hidden=[9223372036854775807]"],
            r"out of memory while building the network: .*; lower backbone\.hidden=\[922337203",
        ),
        (
            ["backbone=cnn", "backbone.widths=[1000000000]"],
            r"lower backbone\.widths=\[1000000000\]",
        ),
        (
            ["backbone=resnet18", "backbone.width=10000000"],
            r"lower backbone\.width=10000000 or backbone\.depths=\[2, 2, 2, 2\] or the size of ",
        ),
    ],
)
def test_what_memory_can_not_hold_is_said_with_its_key_before_training(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = fm_al(tmp_path, *QUICK, *arguments)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_images_that_memory_can_not_hold_decoded_are_said(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder := tmp_path / "images" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "1.png")
    images = ["dataset=image_folder", "dataset.root=images", "dataset.size=1000000"]
    done = fm_al(tmp_path, *QUICK, *images, "budget.initial=2", "budget.total=2")
    assert done.returncode == 1
    assert "dataset.size=1000000: reading 4 images needs 1.12e+04 GiB, cpu has " in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_there_may_be_used() -> None:
    import torch

    cpu = torch.device("cpu")
    require_memory("this", 1, cpu, "")
    with pytest.raises(RunError, match=r"^this needs .* GiB, cpu has .* GiB; lower that$"):
        require_memory("this", 2 * available_memory(cpu), cpu, "lower that")


OWN = """
import sys

import numpy
import torch

from fm_al.errors import RunError
from fm_al.strategies.base import Query, Strategy


class Mine(Strategy):
    def __init__(self, how: str = "none") -> None:
        if how == "init":
            raise KeyError("power")
        self.how = how

    def check(self, network, image):
        if self.how == "check":
            network.nothing

    def select(self, query, n, generator):
        first = query.unlabelled[:n]
        return {
            "none": lambda: None,
            "numpy": lambda: first.numpy(),
            "list": lambda: first.tolist(),
            "floats": lambda: first.float(),
            "short": lambda: first[1:],
            "meta": lambda: first.to("meta"),
            "sparse": lambda: first.to_sparse(),
            "key": lambda: {}["absent"],
            "file": lambda: open("nowhere"),
            "torch": lambda: torch.zeros(3) @ torch.zeros(4),
            "tensor": lambda: query.record("kept", torch.zeros(2)),
            "nan": lambda: query.record("kept", float("nan")),
            "exit": lambda: sys.exit("no more"),
            "words": self.words,
        }[self.how]()

    def words(self):
        raise RunError("in words of their own")


class Abstract(Strategy):
    pass


class Other:
    def select(self, query, n, generator):
        return query.unlabelled[:n]


class Unknown(Strategy):
    def __init__(self, power: "Power" = 1) -> None:
        pass

    def select(self, query, n, generator):
        return query.unlabelled[:n]


def factory(how: str = "list") -> Mine:
    return Mine(how)


def undeclared(how: str = "list"):
    return Mine(how)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch) -> list[str]:
    """Overrides for a strategy of the user's own, in a module `own_strategy` of theirs."""
    (tmp_path / "own_strategy.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import own_strategy\n\n1 / 0\n")
    (tmp_path / "own_syntax.py").write_text("def (\n")
    (tmp_path / "my_conf" / "strategy").mkdir(parents=True)
    (tmp_path / "my_conf" / "strategy" / "mine.yaml").write_text(
        "_target_: own_strategy.Mine\nhow: none\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("own_strategy", "own_broken", "own_syntax"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return [*QUICK, f"--config-dir={tmp_path / 'my_conf'}", "strategy=mine"]


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("none", r"Mine\.select returned None; it must return an int64 tensor of 10 distinct "),
        ("numpy", r"Mine\.select returned an object of <class 'numpy.ndarray'>; it must "),
        ("list", r"Mine\.select returned an object of <class 'list'>; it must return an int64 "),
        ("floats", r"Mine\.select returned a tensor of torch.float32 and shape \(10,\) on cpu"),
        ("short", r"Mine\.select returned a tensor of torch.int64 and shape \(9,\) on cpu; it"),
        ("meta", r"Mine\.select returned a tensor of torch.int64 and shape \(10,\) on meta"),
        ("sparse", r"Mine\.select returned a sparse tensor of torch.int64 and shape \(10,\) on"),
        ("words", r"in words of their own$"),
    ],
)
def test_what_ones_own_strategy_returns_is_judged_in_one_line(
    how: str, line: str, own: list[str], tmp_path: Path
) -> None:
    done = fm_al(tmp_path, *own, f"strategy.how={how}")
    assert done.returncode == 1
    assert re.match(f"fm-al: {line}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("key", "KeyError: 'absent'"),
        ("file", "FileNotFoundError: .* 'nowhere'"),
        ("torch", "RuntimeError: .*"),
        ("tensor", "TypeError: Object of type Tensor is not JSON serializable"),
        ("'nan'", "ValueError: Out of range float values are not JSON compliant.*"),
        ("exit", "SystemExit: no more"),
    ],
)
def test_an_error_in_ones_own_strategy_is_named_after_its_traceback_from_there_on(
    how: str, reason: str, own: list[str], tmp_path: Path
) -> None:
    done = fm_al(tmp_path, *own, f"strategy.how={how}")
    assert done.returncode == 1
    *shown, line = done.stderr.splitlines()
    place = rf"{re.escape(str(tmp_path))}/own_strategy\.py line \d+"
    assert re.fullmatch(rf"fm-al: Mine\.select failed \({reason}, {place}\)", line), line
    assert shown[0] == "Traceback (most recent call last):"
    assert f'File "{tmp_path}/own_strategy.py", line 23, in select' in shown[1]
    assert "experiment.py" not in done.stderr


@pytest.mark.slow
def test_the_whole_traceback_is_there_for_who_asks(own: list[str], tmp_path: Path) -> None:
    asked = {"HYDRA_FULL_ERROR": "1", "PYTHONPATH": str(tmp_path)}
    done = fm_al_process(tmp_path, *own, "strategy.how=key", **asked)
    assert done.returncode == 1
    assert "experiment.py" in done.stderr
    assert "KeyError: 'absent'" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["strategy.how=init"],
            r"own_strategy\.Mine\.__init__ failed \(KeyError: 'power', .*/own_strategy.py line 14",
        ),
        (["strategy.how=check"], r"Mine\.check failed \(AttributeError: .* line 19\)$"),
        (["strategy._target_=own_strategy.Abstract"], r"\.Abstract: is abstract; .* has select$"),
        (["strategy._target_=own_strategy.Other"], r"\.Other: should be a class derived from fm_"),
        (["strategy._target_=own_strategy.undeclared"], r"undeclared: should be a class derived"),
        (
            ["~strategy.how", "strategy._target_=own_strategy.Unknown"],
            r"the types of what Unknown\.__init__ takes can't be read \(NameError: name 'Power'",
        ),
        (
            ["strategy._target_=own_broken.Mine"],
            r"own_broken\.Mine: can't be imported \(ZeroDivisionError: .*/own_broken.py line 3\)$",
        ),
        (
            ["strategy._target_=own_syntax.Mine"],
            r"can't be imported \(SyntaxError: .*own_syntax\.py, line 1\)",
        ),
    ],
)
def test_ones_own_strategy_that_can_not_be_made_is_one_line(
    overrides: list[str], line: str, own: list[str], tmp_path: Path
) -> None:
    done = fm_al(tmp_path, *own, *overrides)
    assert done.returncode == 2
    assert re.search(line, done.stderr.strip()), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_function_may_make_a_strategy_if_it_says_so(own: list[str], tmp_path: Path) -> None:
    made = ["strategy._target_=own_strategy.factory", "strategy.how=list"]
    done = fm_al(tmp_path, *own, *made)
    assert "Mine.select returned an object of <class 'list'>" in done.stderr


def test_errors_that_are_worded_or_of_memory_pass_as_they_are() -> None:
    for error in (ConfigError("a"), RunError("b"), MemoryError(), RuntimeError("out of memory")):
        with pytest.raises(type(error)) as raised, errors_named("It.select", MethodError):
            raise error
        assert raised.value is error


def test_the_end_of_a_job_that_slurm_will_queue_again_passes_as_it_is() -> None:
    """submitit's signal handler raises it wherever the run is, also inside a strategy."""
    handler = SignalHandler.__new__(SignalHandler)
    handler._logger = logging.getLogger(__name__)
    with pytest.raises(SystemExit), errors_named("It.select", MethodError):
        handler._exit()


def test_a_nested_target_is_checked_against_its_annotation() -> None:
    node = {
        "_target_": "fm_al.strategies.fishermask_entropy.FisherMaskEntropy",
        "fishermask": {"_target_": "fm_al.strategies.random.Random"},
    }
    message = r"strategy\.fishermask\._target_=.*: should be a class derived from .*FisherMask$"
    with pytest.raises(ConfigError, match=message):
        check_node("strategy", node, object)
