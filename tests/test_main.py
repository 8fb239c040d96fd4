"""The command line as a user meets it: exit codes, lines, files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fm_al import __version__
from tests.helpers.command_line import QUICK, ROOT, fm_al, fm_al_process


def test_a_run_prints_a_line_a_round_and_closes_with_its_figures_and_place(tmp_path: Path) -> None:
    done = fm_al(tmp_path, *QUICK, "strategy=margin")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    classes, *rounds, closing, place = done.stdout.splitlines()
    assert classes.startswith("10 classes, 1297 images in the pool and 500 in the test set: 0 ")
    assert [line.split("  ")[0] for line in rounds] == ["round 1/3", "round 2/3", "round 3/3"]
    (result,) = tmp_path.glob("outputs/default/digits-none/linear/margin/*/seed0/result.json")
    figures = json.loads(result.read_text())
    assert closing.startswith(f"accuracy {figures['accuracy']:.3f}  balanced ")
    assert f"area under curve {figures['area_under_curve']:.3f}  30 labels" in closing
    assert place == f"records: {result.parent.relative_to(tmp_path)}"
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]

    again = fm_al(tmp_path, *QUICK, "strategy=margin")
    assert again.stdout.splitlines() == ["this run is finished already", closing, place]

    seen = {path.name for path in result.parent.iterdir()}
    assert seen == {"config.yaml", "provenance.json", "rounds.jsonl", "result.json", "lock"}
    provenance = json.loads((result.parent / "provenance.json").read_text())
    assert provenance["starts"][0]["command"] == ["fm-al", *QUICK, "strategy=margin"]


def test_a_sweep_runs_what_is_missing_and_ends_with_a_table(tmp_path: Path) -> None:
    sweep = ["-m", *QUICK, "strategy=random,badge", "seed=range(0,2)"]
    done = fm_al(tmp_path, *sweep)
    assert done.returncode == 0, done.stderr
    results = sorted(tmp_path.glob("outputs/default/digits-none/linear/*/*/seed*/result.json"))
    assert len(results) == 4
    assert "run 4 of 4: outputs/default/digits-none/linear/badge/" in done.stdout
    table = done.stdout[done.stdout.index("mean ±") :]
    assert len(re.findall(r"(?:random|badge) +2 +30 +0\.\d+ ± ", table)) == 2
    assert table.splitlines()[-1] == "records: outputs/default/digits-none/linear"

    results[0].unlink()
    again = fm_al(tmp_path, *sweep)
    assert "3 of 4 runs are finished" in again.stdout
    assert again.stdout.count("round 3/3") == 0
    assert results[0].exists()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_run_that_fails_does_not_stop_a_sweep(tmp_path: Path) -> None:
    failing = "trainer.optimizer.lr=1e-3,1e37"
    done = fm_al(tmp_path, "-m", *QUICK, failing, "trainer.clamp_gradients=null")
    assert done.returncode == 1
    assert "failed: round 1, epoch " in done.stdout
    assert done.stderr.startswith("fm-al: 1 of 2 runs failed: outputs/default/")
    assert done.stderr.count("\n") == 1
    assert len(list(tmp_path.rglob("result.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["strategy=bagde"],
            "strategy=bagde: no such option; strategy has: .* did you mean strategy=badge",
        ),
        (["strategy.temprature=1"], "strategy.temprature: no such option; strategy has: "),
        (
            ["strategy=random", "strategy.augment=1"],
            "strategy.augment: .*; strategy has: max_candidates$",
        ),
        (["bugdet.total=1"], "bugdet.*: no such option; .* did you mean budget?"),
        (["budget.totl=1"], "budget.totl: no such option; .* did you mean budget.total?"),
        (["budget.total=x"], "budget.total=x: should be a valid integer"),
        (["budget.per_round=0"], "budget.per_round=0: should be greater than or equal to 1"),
        (["budget.total=2000"], "budget.total=2000: the pool has 1297 images"),
        (["imbalance=counts"], "imbalance.pool: has no default; give it as imbalance.pool=..."),
        (["dataset=image_folder"], "dataset.root=data/images: .*images is not a folder; images "),
        (["experiment_name=../x"], "experiment_name=../x: "),
        (["device=cuda"], "device.kind=cuda: .* use one of: auto, cpu"),
        (["seed"], "seed"),
        (["-m", "strategy=random", "budget.per_round=5,0"], "budget.per_round=0: should be"),
        (["-m", "seed=0,0"], "name each value once"),
        (["-m", "seed=range(0)"], r"the sweep has no runs: seed=range\(0\) is empty$"),
        (["-m", "seed=range(5,0)", "strategy=random,badge"], r"seed=range\(5,0\) is empty$"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: is for a sweep; add -m"),
        (["hydra.sweeper.dry_run=true"], "hydra.sweeper.dry_run=true: is for a sweep; add -m"),
        (["-m", "hydra.sweeper.dry_run=3"], "hydra.sweeper.dry_run=3: should be a valid boolean"),
        (["-m", "hydra.sweeper.id=../x"], "hydra.sweeper.id=../x: "),
        (["-m", "hydra/launcher=local", "hydra.launcher.runs_at_once=0"], "runs_at_once=0: should"),
        (["-m", "hydra/launcher=slurm", "hydra.launcher.setup=exit"], "setup: should be a list: "),
        (
            ["-m", "hydra/launcher=slurm", "hydra.launcher.additional_parameters.nice=1"],
            r"nice: is new; put \+ before it: \+hydra.launcher.additional_parameters.nice=...$",
        ),
        (["+new=1"], "new: no such option; the top level has: "),
    ],
)
def test_what_can_not_be_is_one_line_and_exit_code_2(tmp_path, arguments, message) -> None:
    if arguments == ["device=cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU, so asking for one is no error")
    done = fm_al(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.startswith("fm-al: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing is made for a configuration that can't be"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["strategy=fishermask", "strategy.fraction=0.5"],
            "strategy.fraction=0.5: should be at least 1.0, to hold the whole last layer, 650 of ",
        ),
        (
            ["strategy=fishermask_entropy", "strategy.fishermask.fraction=0.5"],
            "strategy.fishermask.fraction=0.5: should be at least 1.0",
        ),
    ],
)
def test_a_strategy_that_can_not_use_the_network_says_so_before_training(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = fm_al(tmp_path, *QUICK, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fm-al: {message}")
    assert done.stderr.count("\n") == 1
    assert "round 1" not in done.stdout


@pytest.mark.slow
def test_a_training_that_diverges_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    diverging = [*QUICK, "trainer.optimizer.lr=1e37", "trainer.clamp_gradients=null"]
    done = fm_al(tmp_path, *diverging)
    assert done.returncode == 1
    assert done.stderr.startswith("fm-al: round 1, epoch ")
    assert done.stderr.count("\n") == 1
    full = fm_al_process(tmp_path, *diverging, HYDRA_FULL_ERROR="1")
    assert "Traceback" in full.stderr


def test_a_data_set_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    done = fm_al(tmp_path, "dataset=cifar10", "download=false")
    assert done.returncode == 1
    assert "fm-al-data cifar10" in done.stderr
    assert str(tmp_path / "data") in done.stderr
    assert done.stderr.count("\n") == 1


def test_fm_al_data_says_what_is_there(tmp_path: Path) -> None:
    done = fm_al(tmp_path, "digits", function="download")
    assert done.returncode == 0, done.stderr
    expected = f"digits: 1297 training images, 500 test images, 10 classes, in {tmp_path}/data\n"
    assert done.stdout == expected
    assert fm_al(tmp_path, function="download").returncode == 2


def test_fm_al_data_checks_its_options(tmp_path: Path) -> None:
    done = fm_al(tmp_path, "digits", "dataset.pad_to=abc", function="download")
    assert done.returncode == 2
    assert done.stderr == "fm-al: dataset.pad_to=abc: should be a valid integer or null\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["seed=3", "strategy=mine", "--cfg", "job", "--config-dir", "my_conf"],
        ["--config-dir=my_conf", "seed=3", "--cfg", "job", "strategy=mine"],
        ["--cfg", "job", "seed=3", "-cd", "my_conf", "strategy=random", "strategy=mine"],
    ],
)
def test_options_may_stand_anywhere(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "my_conf" / "strategy").mkdir(parents=True)
    (tmp_path / "my_conf" / "strategy" / "mine.yaml").write_text("_target_: my.Strategy\n")
    done = fm_al(tmp_path, *arguments)
    assert "seed: 3" in done.stdout, done.stderr
    assert "_target_: my.Strategy" in done.stdout


def test_what_names_a_sweeps_command_is_for_its_owners_eyes_only(tmp_path: Path) -> None:
    assert fm_al(tmp_path, "-m", *QUICK, "strategy=random").returncode == 0
    (asked,) = tmp_path.glob("outputs/default/sweeps/*/sweep.json")
    assert stat.S_IMODE(asked.stat().st_mode) == 0o600


@pytest.mark.parametrize("sweep", [[], ["-m"]])
@pytest.mark.parametrize("output_dir", ["file", "file/outputs"])
def test_an_output_dir_that_can_not_be_made_is_named_before_data_are_loaded(
    tmp_path: Path, output_dir: str, sweep: list[str]
) -> None:
    (tmp_path / "file").touch()
    data = ["dataset=cifar10", "download=false", "data_dir=nowhere"]
    done = fm_al(tmp_path, *sweep, *QUICK, *data, "strategy=random", f"output_dir={output_dir}")
    line = (
        rf"fm-al: output_dir={output_dir}: ({output_dir}/\S* )?can't be made \(Not a directory\); "
    )
    assert re.fullmatch(f"{line}choose a folder that you may write to\n", done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (2, "")


def test_a_run_whose_data_can_not_be_loaded_leaves_no_folder(tmp_path: Path) -> None:
    data = ["dataset=cifar10", "download=false", "data_dir=nowhere"]
    done = fm_al(tmp_path, *QUICK, *data, "strategy=random")
    assert done.returncode == 1
    assert "download=false" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_ones_own_strategy_shows_where_it_is_also_in_a_sweep(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fm_al.strategies.random.Random.select", lambda *_: 1 / 0)
        done = fm_al(tmp_path, "-m", *QUICK, "strategy=random", "seed=0,1")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 2
    assert "failed: Random.select failed (ZeroDivisionError: division by zero, " in done.stdout
    assert done.stderr.splitlines()[-1].startswith("fm-al: 2 of 2 runs failed: outputs/")


def test_a_strategy_that_exits_fails_its_run_and_the_sweep_goes_on(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fm_al.strategies.random.Random.select", lambda *_: sys.exit("no more"))
        done = fm_al(tmp_path, "-m", *QUICK, "strategy=random,margin")
    assert done.returncode == 1
    (failed,) = tmp_path.rglob("error.json")
    message = json.loads(failed.read_text())["message"]
    assert message.startswith("Random.select failed (SystemExit: no more, /")
    (finished,) = tmp_path.rglob("result.json")
    assert "margin" in finished.parts
    assert done.stderr.splitlines()[-1].startswith("fm-al: 1 of 2 runs failed: outputs/")


def test_help_and_completion_do_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys, fm_al.cli as m; sys.argv = ['fm-al', '--help']\n"
        "try: m.main()\n"
        "except SystemExit: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_a_few_initial_labels_are_a_warning(tmp_path: Path, caplog) -> None:
    done = fm_al(tmp_path, *QUICK, "strategy=random", "budget.initial=5")
    assert done.returncode == 0
    assert "budget.initial=5 is below the number of classes, 10" in caplog.text


def test_help_lists_groups_options_and_examples(tmp_path: Path) -> None:
    shown = fm_al(tmp_path, "--help").stdout
    for text in (
        "strategy: ",
        "badge",
        "per_round: 20",
        "fm-al -m strategy=random,fishermask",
        "cifar10",
        "\nbudget.start: balanced, ",
    ):
        assert text in shown
    assert "\nstart: " not in shown
    completion = fm_al(tmp_path, "--shell-completion", "install=bash").stdout
    assert "complete" in completion


def test_a_configuration_is_shown_with_what_is_left_out_of_a_preset(tmp_path: Path) -> None:
    shown = fm_al(tmp_path, "--cfg", "job", "experiment=demo", "imbalance=none")
    assert shown.returncode == 0, shown.stderr
    left_out = "# imbalance=none has no imbalance.minority_classes, imbalance.ratio: left out of"
    assert shown.stdout.startswith(left_out)
    config = yaml.safe_load(shown.stdout)
    assert config["imbalance"] == {"_target_": "fm_al.data.imbalance.none.NoImbalance"}
    assert config["backbone"]["widths"] == [16, 32, 64]


@pytest.mark.slow
def test_the_configuration_of_a_sweep_is_that_of_its_first_run(tmp_path: Path) -> None:
    sweep = ["-m", "strategy=badge,bald", "seed=range(3,5)", "strategy.augment=true"]
    shown = fm_al(tmp_path, *sweep, "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("# the first of 4 runs\n")
    config = yaml.safe_load(shown.stdout)
    assert config["seed"] == 3
    assert config["strategy"] == {
        "_target_": "fm_al.strategies.badge.BADGE",
        "augment": True,
        "max_candidates": None,
    }
    for flags in (["--info", "defaults"], ["--help"], ["--cfg", "all", "--resolve"]):
        assert fm_al(tmp_path, *sweep, *flags).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_names_in_other_scripts_and_homes_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = [*QUICK, "strategy=random", "budget.total=10", "output_dir=~/größer"]
    for name in ("größe", "2024"):
        done = fm_al(tmp_path, *given, f"experiment_name={name}")
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob(f"home/größer/{name}/digits-none/linear/random/*/seed0"))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_the_environment_of_a_run_can_be_set(tmp_path: Path, sweep: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        seen = []
        patched.setattr(
            "fm_al.strategies.random.Random.select",
            lambda *_: seen.append(os.environ["GREETING"]) or 1 / 0,
        )
        setting = "+hydra.job.env_set.GREETING=hello"
        with contextlib.suppress(ZeroDivisionError):
            fm_al(tmp_path, *sweep, *QUICK, "strategy=random", setting)
    assert seen == ["hello"]


def test_fm_al_data_has_help(tmp_path: Path) -> None:
    shown = fm_al(tmp_path, "--help", function="download")
    assert shown.returncode == 0
    assert "usage: fm-al-data" in shown.stdout
    wrong = fm_al(tmp_path, "--bogus", "digits", function="download")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_the_version_is_the_packages_own(tmp_path: Path) -> None:
    """Also in a checkout that is not installed."""
    assert fm_al(tmp_path, "--version").stdout.startswith(f"fm-al {__version__}, Hydra ")
