"""Bad command lines: each ends with exit code 2 and one line, and makes nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from fm_al.planned_run import PlannedRun
from tests.helpers.command_line import fm_al

Command = list[str]
NO_EFFECT = "has no effect here; "


def refuse(*_: Any) -> None:
    raise AssertionError("it would run")


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlannedRun, "_run", refuse)
    monkeypatch.setattr("fm_al.launch.sweep.Sweep.start", refuse)


FLAGS: list[tuple[Command, str]] = [
    (["--resolve"], "--resolve: goes with --cfg job"),
    (["--package", "x.y"], "--package x.y: goes with --cfg job"),
    (["--cfg", "job", "--package", "x.y"], "--package x.y: the configuration has no such part"),
    (["--multirun", "--run"], "--run and -m: give one of them"),
    (["--cfg", "job", "--info"], "--cfg and --info: give one of them"),
    (["-m", "--shell-completion"], "--shell-completion and -m: give one of them"),
    (["--config-name", "x"], "--config-name: fm-al has one configuration; --config-dir adds"),
    (["--config-path", "x"], "--config-path: fm-al has one configuration; --config-dir adds"),
    (["--config-dir", "nope"], "--config-dir nope: is not a folder"),
    (["--cfg", "nope"], "argument --cfg/-c: invalid choice: 'nope'"),
    (["--cfg"], "argument --cfg/-c: expected one argument"),
    (["--bogus"], "unrecognized arguments: --bogus"),
    (["--shell-completion", "install=nope"], "--shell-completion: No completion plugin for 'nope'"),
    (["--shell-completion", "query=bash"], "--shell-completion query=...: is for a shell to ask"),
    (["--cfg", "job", "--resolve", "seed=${nope}"], "seed=${nope}: there is no nope"),
    (["--help", "--resolve", "seed=${nope}"], "seed=${nope}: there is no nope"),
    (["-m", "--cfg", "job", "seed=0,0"], "seed=0,0: name each value once"),
]
OF_HYDRA: list[tuple[Command, str]] = [
    (["hydra.run.dir=x"], f"hydra.run.dir=x: {NO_EFFECT}output_dir=FOLDER sets where"),
    (["-m", "hydra.sweep.dir=x"], f"hydra.sweep.dir=x: {NO_EFFECT}output_dir=FOLDER sets where"),
    (["hydra.job.chdir=true"], f"hydra.job.chdir=true: {NO_EFFECT}paths start where fm-al is"),
    (["hydra.output_subdir=.hydra"], f"hydra.output_subdir=.hydra: {NO_EFFECT}a run's config.yaml"),
    (["hydra.verbose=nope"], f"hydra.verbose=nope: {NO_EFFECT}HYDRA_FULL_ERROR=1"),
    (["hydra.searchpath=[/nonexistent]"], f"{NO_EFFECT}--config-dir FOLDER adds options"),
    (["hydra.mode=MULTIRUN"], f"hydra.mode=MULTIRUN: {NO_EFFECT}-m makes a sweep"),
    (["hydra/job_logging=default"], f"{NO_EFFECT}of Hydra's own options, fm-al takes"),
    (["+hydra.callbacks.x=1"], f"{NO_EFFECT}of Hydra's own options, fm-al takes"),
    (["+hydra.job={env_set: {KEY: S}, chdir: true}"], f"{NO_EFFECT}paths start where fm-al is"),
    (["++hydra={run: {dir: x}}"], "should be hydra.launcher.OPTION=..."),
    (["~hydra.job"], "~hydra.job: can't be left out"),
    (["hydra/sweeper=basic"], f"hydra/sweeper=basic: {NO_EFFECT}fm-al has one sweeper"),
    (["-m", "hydra/sweeper=basic"], f"hydra/sweeper=basic: {NO_EFFECT}fm-al has one sweeper"),
    (["hydra/launcher=local"], "hydra/launcher=local: is for a sweep; add -m"),
    (["hydra.sweeper.dry_run=true"], "hydra.sweeper.dry_run=true: is for a sweep; add -m"),
    (["-m", "hydra.sweeper=5"], "hydra.sweeper=5: should be a mapping"),
    (["-m", "hydra.launcher=5"], "hydra.launcher=5: should be a mapping"),
    (["-m", "hydra.sweeper.params=5"], "hydra.sweeper.params=5: should be a mapping or null"),
    (["-m", "hydra.sweeper.params={hydra.sweeper.wait: 1}"], "hydra.sweeper.wait=1 can't be swept"),
    (["-m", "hydra.sweeper.id=a b"], "hydra.sweeper.id=a b: should match ^[A-Za-z0-9-]+$"),
    (["-m", "hydra.sweeper._target_=x"], "hydra.sweeper._target_: no such option"),
    (["-m", "hydra.sweeper.id=${oc.env:}"], "hydra.sweeper.id=${oc.env:}: oc.env needs the name"),
    (["-m", "hydra.sweeper.wait=true,false"], "Hydra's own options can't be swept"),
    (["-m", "hydra/launcher=nope"], "hydra/launcher=nope: no such option; hydra/launcher has: "),
]
SWEEPS: list[tuple[Command, str]] = [
    (["-m", "strategy=[random,badge]"], "is one list; to sweep over its options: strategy=random,"),
    (["strategy=[random,badge]"], "is one list; to sweep over its options: strategy=random,badge"),
    (["-m", "seed=[0,1]"], "seed=[0,1]: is one list; to sweep over its values: seed=0,1"),
    (
        ["-m", "strategy=random,badge,fishermask", "strategy.regularization=0.1"],
        "no such option; strategy has: max_candidates (in the runs with strategy=random,badge)",
    ),
    (
        ["-m", "strategy=bald,margin", "strategy.samples=3"],
        "strategy has: augment, max_candidates (in the runs with strategy=margin)",
    ),
    (["seed=0,1"], "seed=0,1: has several values; add -m to sweep over them"),
    (["seed=interval(0,3)"], "seed=interval(0,3): has several values; add -m"),
    (["-m", "seed=interval(0,3)"], "seed=interval(0,3): should list values: seed=range(0,3)"),
    (["-m", "seed=range(0,3,0)"], "should be range(start,stop,step) with a step other than 0"),
    (["-m", "seed=range(0,1000000000)"], "1,000,000,000 runs; a sweep has 100,000 at most"),
    (["-m", "seed=range(0,1e400)"], "infinitely many runs; a sweep has 100,000 at most"),
    (["-m", "seed=range(0,1,1e-9)"], "1,000,000,000 runs; a sweep has 100,000 at most"),
    (["-m", "seed=shuffle(range(0,1000000000))"], "a sweep has 100,000 at most"),
    (["-m", "seed=range(0,400)", "budget.total=range(20,420)"], "160,000 runs; a sweep has"),
    (["-m", "seed=glob(*)"], "the sweep has no runs: seed=glob(*) is empty"),
]
VALUES: list[tuple[Command, str]] = [
    (["experiment_name=it's"], "experiment_name=it's: should be a letter or digit, then letters"),
    (["experiment_name=my exp"], "experiment_name=my exp: should be a letter or digit, then"),
    (["experiment_name="], "experiment_name=: should be a letter or digit, then letters"),
    (["experiment_name=" + "x" * 300], "should have at most 120 bytes; it has 300"),
    (["experiment_name=" + "漢" * 50], "should have at most 120 bytes; it has 150"),
    (["output_dir=a\0b"], "should be the name of a folder"),
    (["output_dir="], "output_dir=: should be the name of a folder"),
    (["data_dir=~no-such-user/x"], "~no-such-user/x: there is no such home folder"),
    (["experiment_name=\udcff"], "is not UTF-8 text"),
    (["seed=${nope}"], "seed=${nope}: there is no nope"),
    (["backbone.width=${nope}"], "backbone.width=${nope}: there is no nope"),
    (["trainer.optimizer.betas=[0.9,${nope}]"], "trainer.optimizer.betas[1]=${nope}: there is no"),
    (["seed=${seed}"], "seed=${seed}: it refers to itself"),
    (["seed=${oc.env:}"], "seed=${oc.env:}: oc.env needs the name of a variable"),
    (["seed=${oc.env:NO_SUCH}"], "seed=${oc.env:NO_SUCH}: the environment has no NO_SUCH"),
    (["seed=${nope:1}"], "seed=${nope:1}: there is no resolver nope"),
    (["-m", "seed=${nope}"], "seed=${nope}: there is no nope"),
    (["seed=[1,2"], "seed=[1,2: a [ is not closed"),
    (["-m", "seed=[1,2"], "seed=[1,2: a [ is not closed"),
    (["seed=" + "9" * 5000], "can't be read"),
    (["trainer.optimizer.betas=[0.9]"], "trainer.optimizer.betas=[0.9]: [1] is missing"),
    (["imbalance=counts", "imbalance.pool={3: 9}"], "should have at least 2 entries"),
    (["imbalance=counts", "imbalance.pool={ö: 3, a: 4}"], "keep those in a file, for --config-dir"),
    (["imbalance=paper", "imbalance.pool.2=5"], "is set with all of imbalance.pool"),
    (["strategy._target_=builtins.dict"], "_target_"),
    (["strategy._target_=.."], "_target_"),
    (["strategy=5"], "strategy=5: no such option; strategy has: "),
    (["strategy=null"], "strategy=null: should be the name of an option, or be left out"),
    (["strategy=${nope}"], "strategy=${nope}: should be the name of an option"),
    (["~strategy"], "~strategy: can't be left out; choose another one: strategy=..."),
    (["+strategy=badge"], "+strategy=badge: leave + out: strategy=badge"),
    (["+budget.total=60"], "+budget.total: is there; leave + out"),
    (["~budget.nope"], "~budget.nope: there is no budget.nope"),
    (["strategy@x=badge"], "strategy@x=badge: should be strategy=..."),
    (["strategy@strategy.inner=badge"], "strategy.inner=badge: should be strategy.inner=..."),
    (["start=balanced"], "start=balanced: should be budget.start=..."),
    (["start@budget.start=balanced"], "start@budget.start=balanced: should be budget.start=..."),
    (["experiment=null"], "experiment=null: should be the name of an option, or be left out"),
    (["größe=1"], "größe=1: the name before = can't be read"),
    (["budget.=5"], "budget.=5: the name before = can't be read"),
    (["=5"], "=5: should be key=value"),
    (["+=${x}"], "+=${x}: should be key=value"),
    ([""], "an empty argument: should be key=value"),
    (["x" * 5000 + "=1"], ": no such option"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [*FLAGS, *OF_HYDRA, *SWEEPS, *VALUES],
    ids=lambda value: None if isinstance(value, str) else ascii(" ".join(value))[1:60],
)
def test_a_bad_command_is_one_line_and_exit_code_2(
    arguments: Command, message: str, tmp_path: Path
) -> None:
    check(fm_al(tmp_path, *arguments), message)
    assert list(tmp_path.iterdir()) == []


def check(done: Any, message: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("fm-al: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 4100


class Loaded:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("from pathlib import Path; Path('loaded').touch()",)


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--exp"])
def test_a_pickle_is_never_loaded(flag: str, tmp_path: Path) -> None:
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(Loaded()))
    done = fm_al(tmp_path, flag, "job.pickle")
    check(done, "--experimental-rerun: fm-al loads no pickles")
    assert not (tmp_path / "loaded").exists()


FILES = [
    ("a: [1, 2\nb: 3\n", "mine.yaml:2: expected ',' or ']', but got ':'"),
    ("_target_: x\na: b: c\n", "mine.yaml:2: mapping values are not allowed here"),
    ("a:\n\tb: 1\n", "mine.yaml:2: found character '\\t'"),
    ("a: 1\n".encode("utf-16"), "mine.yaml:1: is not UTF-8 text"),
    ("a: 1\nb: größe\n".encode("latin-1"), "mine.yaml:2: is not UTF-8 text"),
    ("a: 1\nb: 2\na: 3\n", "mine.yaml:3: found duplicate key a"),
    ("a: 1\ndefaults: 5\n", "mine.yaml:2: defaults should be a list"),
    ("defaults:\n  - _self_\n  - 5\n", "mine.yaml:3: an item of defaults should be group: option"),
    ("defaults:\n  - a: b\n    c: d\n", "mine.yaml:2: an item of defaults should have one key"),
    ("defaults:\n  - /strategy: 5\n", "mine.yaml:2: an item of defaults should name an option"),
    ("defaults: [_self_, _self_]\n", "mine.yaml:1: defaults should name _self_ once"),
    ("defaults:\n  - nope\n", "mine.yaml: Could not load 'strategy/nope'"),
    ("defaults:\n  - mine\n", "mine.yaml: its defaults lead back to itself"),
    ("defaults:\n  - other\n", "its defaults lead back to itself"),
    ("x: 1\na: &a\n  b: *a\n", "mine.yaml:2: the anchor stands for something it is part of"),
    ("a: *nope\n", "mine.yaml:1: found undefined alias 'nope'"),
    (
        "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}' if i else 'x'] * 9)}]\n" for i in range(9)),
        "mine.yaml: its aliases stand for ",
    ),
    ("a: " + "[" * 20_000, "mine.yaml: is nested too deeply"),
    ("a: " + "9" * 5_000, "mine.yaml: Exceeds the limit (4300 digits)"),
    ("- 1\n", "mine.yaml:1: should be a mapping"),
    ("a: !!python/object/apply:os.getcwd []\n", "mine.yaml:1: could not determine a constructor"),
    ("a: ${\n", "mine.yaml: no viable alternative at input '${'"),
    ("a: 1\n---\nb: 2\n", "mine.yaml:2: but found another document"),
    ("# @package [\na: 1\n", "mine.yaml: @package [: is no key"),
]


@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["single", "sweep"])
@pytest.mark.parametrize(("content", "message"), FILES, ids=lambda value: ascii(value)[:30])
def test_a_damaged_file_in_a_folder_of_ones_own_is_one_line_with_file_and_line(
    content: str | bytes, message: str, sweep: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "conf" / "strategy"
    folder.mkdir(parents=True)
    data = content.encode() if isinstance(content, str) else content
    (folder / "mine.yaml").write_bytes(data)
    (folder / "other.yaml").write_text("defaults: [mine]\n")
    check(fm_al(tmp_path, *sweep, "--config-dir", "conf", "strategy=mine"), message)


def test_a_preset_with_hydra_options_that_have_no_effect_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nhydra: {run: {dir: elsewhere}}\n")
    done = fm_al(tmp_path, "--config-dir", "conf", "experiment=mine")
    check(done, f"hydra.run.dir=elsewhere: {NO_EFFECT}output_dir=FOLDER sets where")
