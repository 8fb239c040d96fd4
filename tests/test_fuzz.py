"""Commands at random: whatever is typed ends with an exit code and, if it is an error, one line."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fm_al.compose.arguments import TEXTS
from fm_al.compose.composer import Composer
from fm_al.errors import RunError
from fm_al.planned_run import PlannedRun
from tests.conftest import CONF
from tests.helpers.command_line import fm_al

COMMANDS, BATCHES = 600, 12
LONGEST_ERROR = 4100  # characters
SECONDS = 30  # that one command may take
PREFIXES = [*[""] * 12, "+", "++", "~"]
VALUES = [
    "", "0", "-1", "1", "2", "1.5", "-0.0", "1e300", "1e400", "inf", "-inf", "nan", "null", "true",
    "x", "größe", "it's", "a b", "~", "~/x", "..", "../x", "=", "a=b", "$x", "\\", "%s", "😀",
    "[]", "[1,2]", "[1,2", "[[[[", "[" * 2000, "{}", "{a: 1}", "{a: {b: c}}", "{ö: 1}", "]", "}",
    "'quoted'", '"', "'", "???", "${nope}", "${seed}", "${oc.env:}", "${oc.env:NOPE}", "${nope:1}",
    "${", "9" * 30, "9" * 5000, "a" * 3000, "0x10", "1_000", "07", "int(x)", "str(1)", "foo(1)",
    "range(0,3)", "range(0,1000000000)", "range(0,3,0)", "range(0,inf)", "choice(1,2)", "choice()",
    "glob(*)", "interval(0,1)", "sort(2,1)", "shuffle(range(0,3))", "1,2", "1,1", "x,", "a,b",
    "[random,badge]", "builtins.dict", "fm_al", "os.system", "\0", "\x1b[31m", "\udcff", "a\nb",
]  # fmt: skip
FLAGS = [
    ["--resolve"], ["--cfg", "job"], ["--cfg", "all"], ["--cfg", "job", "--resolve"], ["--run"],
    ["--cfg", "job", "--package", "budget"], ["--package", "x.y"], ["--info", "searchpath"],
    ["--experimental-rerun", "x.pickle"], ["--config-name", "x"], ["--config-dir", "nope"],
    ["--help"], ["--bogus"], ["--cfg"], ["--version"], ["-m"], ["--shell-completion"],
]  # fmt: skip
OF_HYDRA = [
    "hydra", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweeper", "hydra.sweeper.params",
    "hydra.sweeper.params.seed", "hydra.sweeper.dry_run", "hydra.sweeper.id", "hydra.launcher",
    "hydra.launcher.runs_at_once", "hydra.sweeper.max_jobs", "hydra/launcher", "hydra/sweeper",
    "hydra.mode", "hydra.job.chdir", "hydra.job.env_set", "hydra.job.env_set.KEY", "hydra.verbose",
    "hydra.searchpath", "hydra.output_subdir", "hydra/job_logging", "hydra.callbacks",
]  # fmt: skip
ODD_KEYS = ["", "seed.x", "strategy@x", "größe", "a b", "budget.", ".budget", "x" * 500, "foo/bar"]


BUDGET = ("initial", "per_round", "growth", "total", "whole_pool", "train_before_first_query")


def key_of(group: str) -> str:
    """Where the options of a folder in `conf/` are chosen."""
    return "budget.start" if group == "start" else group


def keys() -> list[tuple[str, str]]:
    """Every option of every option of every group, with the override that chooses the latter."""
    found = {}

    def walk(key: str, node: Any, choice: str) -> None:
        found[key, choice] = None
        if isinstance(node, dict):
            for name, value in node.items():
                walk(f"{key}.{name}", value, choice)

    composer = Composer()
    for path in sorted(CONF.glob("*/*.yaml")):
        if path.parent.name not in ("experiment", "protocol"):
            key = key_of(path.parent.name)
            choice = f"{key}={path.stem}"
            config = OmegaConf.select(composer.compose([choice]), key)
            walk(key, OmegaConf.to_container(config, resolve=False), choice)
    for key in (*TEXTS, "seed", "download", *(f"budget.{name}" for name in BUDGET)):
        found[key, "seed=1"] = None
    return list(found)


def command(
    rng: random.Random, known: list[tuple[str, str]], options: dict[str, list[str]]
) -> list[str]:
    def value(key: str) -> str:
        if key in options and rng.random() < 0.5:
            return rng.choice(options[key])
        return rng.choice(VALUES)

    arguments = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5])):
        kind = rng.choices(["known", "chosen", "of Hydra", "odd"], [12, 3, 3, 1])[0]
        if kind == "known":
            key, choice = rng.choice(known)
            if key not in options:
                arguments.append(choice)
        else:
            key = rng.choice({"chosen": list(options), "of Hydra": OF_HYDRA, "odd": ODD_KEYS}[kind])
        equals = "" if rng.random() < 0.02 else "="
        arguments.append(f"{rng.choice(PREFIXES)}{key}{equals}{value(key)}")
    if rng.random() < 0.4:
        arguments += ["-m", "hydra.sweeper.dry_run=true"]
    if rng.random() < 0.1:
        arguments += rng.choice(FLAGS)
    return arguments


@pytest.fixture(scope="module")
def generated() -> list[list[str]]:
    rng, known = random.Random(0), keys()
    options = {
        key_of(folder.name): [path.stem for path in sorted(folder.glob("*.yaml"))]
        for folder in sorted(CONF.iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }
    return [command(rng, known, options) for _ in range(COMMANDS)]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that would begin ends at once; a command that does not end is stopped."""

    def ran(*_: Any) -> None:
        raise RunError("it would run")

    def took_too_long(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    monkeypatch.setattr(PlannedRun, "_run", ran)
    monkeypatch.setattr("fm_al.launch.sweep.Sweep.start", ran)
    monkeypatch.setattr("fm_al.launch.sweeper.start_detached", ran)
    before = signal.signal(signal.SIGALRM, took_too_long)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_any_command_ends_with_an_exit_code_and_at_most_one_line(
    batch: int, generated: list[list[str]], tmp_path: Path
) -> None:
    wrong = []
    for arguments in generated[batch::BATCHES]:
        signal.alarm(SECONDS)
        try:
            done = fm_al(tmp_path, *arguments)
        except BaseException as error:  # a traceback, for a user
            wrong.append(f"{arguments}: {type(error).__name__}: {str(error)[:300]}")
            continue
        is_one_line = (
            done.stderr.startswith("fm-al: ")
            and done.stderr.count("\n") == 1
            and len(done.stderr) <= LONGEST_ERROR
        )
        if done.returncode not in (0, 1, 2) or (done.returncode > 0) != is_one_line:
            wrong.append(f"{arguments}: {done.returncode}, {done.stderr[:300]!r}")
    assert not wrong, "\n".join(wrong)
    assert {path.name for path in tmp_path.iterdir()} <= {"outputs"}
