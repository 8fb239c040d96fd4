"""What each command imports: nothing that takes long and is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import QUICK, ROOT, fm_al
from tests.test_image_folder import SIZE, fill

pytestmark = pytest.mark.slow

# Of each, importing it takes from a tenth of a second to more than one.
SLOW = {
    "joblib", "matplotlib", "numpy", "pandas", "scipy", "sklearn", "submitit", "sympy", "torch",
    "torch._dynamo", "torch._inductor", "torchvision", "wandb",
}  # fmt: skip
OF_A_REPORT = {"joblib", "matplotlib", "numpy", "pandas", "scipy"}
RUN = ["strategy=margin", *QUICK]
PRESET = ["experiment=demo", *RUN, "backbone.widths=[4]", "backbone=cnn"]
CODE = """
import json, sys
from fm_al import cli
function, file, *sys.argv[1:] = sys.argv[1:]
try:
    getattr(cli, function)()
finally:
    with open(file, "w") as stream:
        json.dump([*sys.modules], stream)
"""


def slow_imports(folder: Path, function: str, *arguments: str) -> set[str]:
    """Which slow packages a command, a function of `fm_al.cli`, has imported at its end."""
    file = folder / "modules.json"
    subprocess.run(
        [sys.executable, "-c", CODE, function, str(file), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return SLOW & {*json.loads(file.read_text())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of `RUN` and `PRESET`."""
    folder = tmp_path_factory.mktemp("finished")
    for arguments in (RUN, PRESET):
        assert fm_al(folder, *arguments).returncode == 0
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--cfg", "job", *RUN]])
def test_what_only_shows_something_imports_nothing_slow(arguments, tmp_path: Path) -> None:
    assert slow_imports(tmp_path, "main", *arguments) == set()


@pytest.mark.parametrize("arguments", [RUN, PRESET, ["-m", *RUN], ["-m", *PRESET, "seed=0"]])
def test_a_finished_run_is_recognised_without_torch(arguments: list[str], finished: Path) -> None:
    assert slow_imports(finished, "main", *arguments) == set()


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_a_finished_sweep_imports_its_launcher_alone(launcher: str, finished: Path) -> None:
    sweep = ["-m", *RUN, "seed=0", f"hydra/launcher={launcher}"]
    allowed = {"joblib", "numpy", "submitit"} if launcher == "local" else set()
    assert slow_imports(finished, "main", *sweep) <= allowed


def test_a_finished_run_on_a_folder_of_images_is_recognised_without_torch(tmp_path: Path) -> None:
    fill(tmp_path / "images", seed=0)
    arguments = [
        *RUN, "dataset=image_folder", f"dataset.root={tmp_path / 'images'}",
        f"dataset.size={SIZE}", "dataset.crop_padding=0", f"data_dir={tmp_path / 'data'}",
    ]  # fmt: skip
    assert fm_al(tmp_path, *arguments).returncode == 0
    assert slow_imports(tmp_path, "main", *arguments) == {"numpy"}


@pytest.mark.parametrize("options", [[], ["backbone=resnet18_quarter", "trainer=standard"]])
def test_a_run_imports_torch_alone(options: list[str], tmp_path: Path) -> None:
    run = [*RUN, *options, "budget.total=10"]
    assert slow_imports(tmp_path, "main", *run) == {"torch", "numpy"}
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_a_configuration_is_checked_without_training(tmp_path: Path) -> None:
    sweep = ["-m", *RUN, "strategy=margin,fishermask", "hydra.sweeper.dry_run=true"]
    assert slow_imports(tmp_path, "main", *sweep) == {"torch", "numpy"}


def test_a_status_imports_nothing_slow_and_a_report_what_it_draws_with(finished: Path) -> None:
    assert slow_imports(finished, "status", "outputs") == set()
    assert slow_imports(finished, "report", "outputs") == OF_A_REPORT


@pytest.mark.parametrize("package", ["fm_al", "fm_al.fisher"])
def test_the_library_imports_nothing_but_torch(package: str, tmp_path: Path) -> None:
    code = f"import sys, {package}; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    output = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    allowed = {"torch", "numpy"} if package == "fm_al.fisher" else set()
    assert (SLOW | {"hydra", "omegaconf"}) & {*output.split()} <= allowed
