"""What README.md and docs/ say, done as it stands there. Their commands are run by `.ci/docs`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from fm_al.report.command import parser
from tests.conftest import CONF
from tests.helpers.command_line import QUICK, ROOT, fm_al, fm_al_process

README = (ROOT / "README.md").read_text()
REPRODUCING, EXTENDING, SLURM = (
    (ROOT / "docs" / f"{page}.md").read_text() for page in ("reproducing", "extending", "slurm")
)


def block(page: str, language: str, containing: str) -> str:
    (found,) = (
        text
        for text in re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if containing in text
    )
    return found


def test_a_strategy_of_your_own_is_one_py_and_one_yaml(tmp_path: Path) -> None:
    (tmp_path / "spread.py").write_text(block(EXTENDING, "python", "class Spread"))
    folder = tmp_path / "my_conf" / "strategy"
    folder.mkdir(parents=True)
    yaml = block(EXTENDING, "yaml", "Spread").replace("fm_al.strategies.spread", "spread")
    (folder / "spread.yaml").write_text(yaml)
    path = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    mine = ["--config-dir", "my_conf", "strategy=spread", *QUICK]
    options = ["strategy.power=1", "strategy.max_candidates=25"]
    done = fm_al_process(tmp_path, *mine, *options, **path)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["labelled"] == 30
    (rounds,) = tmp_path.rglob("rounds.jsonl")
    assert '"candidates":25' in rounds.read_text()
    misspelt = fm_al_process(tmp_path, *mine, "strategy.powr=1", **path)
    assert misspelt.returncode == 2
    assert "strategy has: power, max_candidates; did you mean strategy.power?" in misspelt.stderr


def test_every_group_and_option_that_the_table_names_is_there() -> None:
    """Not the other way: an option of one's own is no reason for a test to fail."""
    (table,) = re.findall(r"^\| group \| options \|\n((?:\|.*\n)+)", README, re.MULTILINE)
    rows = re.findall(r"^\| `([a-z.]+)` \| (`.*) \|$", table, re.MULTILINE)
    assert {group for group, _ in rows} == {
        *("dataset", "imbalance", "backbone", "strategy", "features", "budget.start"),
        *("trainer", "device", "tracker"),
    }
    for group, row in rows:
        folder = group.removeprefix("budget.")
        there = {file.stem for file in (CONF / folder).glob("*.yaml")}
        assert set(re.findall(r"`([a-z0-9_]+)`", row)) <= there, group


def test_the_table_of_the_demo_names_strategies() -> None:
    shown = README[README.index("make demo") : README.index("records: outputs/demo")]
    rows = re.findall(r"^ *([a-z_]+) +2 +\d+ +0\.\d+ ± ", shown, re.MULTILINE)
    assert len(rows) > 5
    assert set(rows) <= {file.stem for file in (CONF / "strategy").glob("*.yaml")}


def test_the_report_is_of_the_runs_of_the_sweep_alone(tmp_path: Path) -> None:
    sweep = block(README, "bash", "seed=range(0,5)").splitlines()[1]
    folder = parser().parse_args(block(README, "bash", "fm-al-report").split()[1:]).folder
    planned, demo = (
        fm_al(tmp_path, *arguments, "hydra.sweeper.dry_run=true").stdout
        for arguments in (shlex.split(sweep)[1:], ["-m", "experiment=demo"])
    )
    assert planned.count(f"  {folder}/") == 10
    assert "would start 10 of 10 runs" in planned
    assert f"{folder}/" not in demo


def test_the_examples_of_the_clusters_options_can_be_typed(compose) -> None:
    (table,) = re.findall(
        r"^\| option \| example \| default \|\n((?:\|.*\n)+)", SLURM, re.MULTILINE
    )
    examples = re.findall(r"^\| `.*?` \| `(.*?)` \|", table, re.MULTILINE)
    assert len(examples) > 8
    for example in examples:
        composed = compose("hydra/launcher=slurm", *shlex.split(example)).hydra.launcher
        key, _, value = shlex.split(example)[0].partition("=")
        name = key.removeprefix("+").removeprefix("hydra.launcher.")
        if name == "setup":
            assert composed.setup == ["module load cuda/12", "ulimit -n 4096"]
        elif name == "additional_parameters":
            assert composed.additional_parameters == {"mail-type": "END"}
        else:
            assert str(composed[name]) == value


def test_a_launcher_of_ones_own_is_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "my_conf" / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(block(SLURM, "yaml", "my_project"))
    shown = fm_al_process(
        tmp_path,
        *("--config-dir", "my_conf", "hydra/launcher=mine", "-m", "--cfg", "hydra"),
        *("--package", "hydra.launcher"),
    )
    assert "account: my_project" in shown.stdout
    assert "gpus_per_node: 1" in shown.stdout


def test_the_commands_of_a_figure_are_there(tmp_path: Path) -> None:
    """They take a download and an hour, so they are planned and parsed, and not run."""
    install, data, sweep, report = block(REPRODUCING, "", "pip install").splitlines()
    assert install == "pip install ."
    assert (CONF / "dataset" / f"{data.removeprefix('fm-al-data ')}.yaml").exists()
    planned = fm_al(tmp_path, *sweep.split()[1:], "hydra.sweeper.dry_run=true")
    assert "would start 35 of 35 runs" in planned.stdout, planned.stderr
    assert sweep.split()[2] == f"experiment={data.split()[1].join(('imbalanced_', '_short'))}"
    folder = parser().parse_args(report.split()[1:]).folder
    assert f"{folder}/" in planned.stdout


def test_every_preset_that_the_table_names_is_there_and_none_is_left_out() -> None:
    (table,) = re.findall(r"^\| `experiment=` \| .*\n((?:\|.*\n)+)", REPRODUCING, re.MULTILINE)
    named = set(re.findall(r"`([a-z0-9_]+)`", table)) - {"_as_published", "mnist", "fashion_mnist"}
    variants = ("_short", "_repaired")
    figures = {name for name in named if "balanced_" in name and not name.endswith(variants)}
    named |= {f"{figure}_as_published" for figure in figures}
    named |= {f"imbalanced_{name}_short" for name in ("mnist", "fashion_mnist")}
    assert named == {file.stem for file in (CONF / "experiment").glob("*.yaml")}
