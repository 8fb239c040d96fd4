"""Collects the wheels that a machine without a network needs beside torch and its usual company.

`make wheels` runs it. Requirements are those of setup.cfg and of what they require in turn, without
the packages that such a machine has (`THERE`) or does not need (`LEFT_OUT`).
"""

from __future__ import annotations

import argparse
import configparser
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
MOST_BYTES = 10 * 2**20
THERE = {
    *("torch", "torchvision", "numpy", "scipy", "scikit-learn", "joblib", "pandas"),
    *("pillow", "rich", "pyyaml", "jinja2"),
}
LEFT_OUT = {"matplotlib", "wandb"}  # pictures and the tracker: tracker=none needs neither
FOR_TESTS = ("pytest",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "wheels")
    parser.add_argument(
        "--python-version",
        default=f"{sys.version_info.major}.{sys.version_info.minor}",
        help="of the machine that they are for, such as 3.12",
    )
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        help="of that machine, such as manylinux2014_x86_64; may be given several times; without: "
        "this machine's",
    )
    options = parser.parse_args()
    target = ["--python-version", options.python_version]
    for platform in options.platform:
        target += ["--platform", platform]
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder.parent) as made:
        wheels = collected(Path(made), target, options.python_version)
        size = sum(wheel.stat().st_size for wheel in wheels)
        if size > MOST_BYTES:
            sys.exit(f"the wheels take {size / 2**20:.1f} MiB: should be at most 10")
        shutil.rmtree(options.folder, ignore_errors=True)
        options.folder.mkdir()
        for wheel in wheels:
            wheel.rename(options.folder / wheel.name)
    print(f"{len(wheels)} wheels, {size / 2**20:.1f} MiB, in {options.folder}")


def collected(folder: Path, target: list[str], python_version: str) -> list[Path]:
    """Downloads the wheels of all requirements into a folder."""
    waiting = deque(declared())
    specifiers: dict[str, SpecifierSet] = {}
    wheels: dict[str, Path] = {}
    while waiting:
        requirement = waiting.popleft()
        name = canonicalize_name(requirement.name)
        if name in THERE | LEFT_OUT:
            continue
        specifiers[name] = specifiers.get(name, SpecifierSet()) & requirement.specifier
        if name in wheels:
            if specifiers[name].contains(parse_wheel_filename(wheels[name].name)[1]):
                continue
            wheels[name].unlink()  # a later requirement excludes it
        wheels[name] = downloaded(f"{name}{specifiers[name]}", folder / name, target)
        waiting += required_by(wheels[name], python_version)
    return sorted(wheels.values())


def declared() -> list[Requirement]:
    """What setup.cfg and the tests require."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split("\n")
    return [Requirement(line) for line in [*filter(None, lines), *FOR_TESTS]]


def downloaded(wanted: str, folder: Path, target: list[str]) -> Path:
    """Downloads a wheel, or builds one of a package that has none."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--only-binary=:all:", *target, "--dest", str(folder)]
    found = subprocess.run([*pip, "download", *only, wanted], capture_output=True, text=True)
    if found.returncode:
        built = subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), wanted])
        if built.returncode or not [*folder.glob("*-none-any.whl")]:
            sys.exit(f"{wanted}: no wheel for this machine; pip says: {found.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    print(wheel.name, flush=True)
    return wheel


def required_by(wheel: Path, python_version: str) -> list[Requirement]:
    """What a wheel requires on the machine that it is for."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    requirements = map(Requirement, metadata.get_all("Requires-Dist") or ())
    there = {"python_version": python_version, "python_full_version": f"{python_version}.0"}
    there |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}
    return [each for each in requirements if each.marker is None or each.marker.evaluate(there)]


if __name__ == "__main__":
    main()
