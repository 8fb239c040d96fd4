"""Tests, measures and runs experiments on a machine with a CUDA GPU, within a time limit.

    python3 launchers/gpu.py --minutes 10 --records FOLDER [dataset=cifar10_jpeg ...]

In order: the tests marked `gpu`, the benchmark with its limits, then as many runs of paper presets
as fit, several at once. Runs resume: the records of an earlier call that are in FOLDER are
continued. Needs no network, and no package beside torch and its usual company that is not among the
wheels that `make wheels` collects.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("tests", "benchmark", "runs")
# Of the time left when a part starts. The runs take what is left.
SHARES = {"tests": 0.35, "benchmark": 0.4}
PACKING = 15.0  # seconds kept for stopping and packing
GRACE = 10.0  # seconds that a part has to stop
MOST_BYTES = 15 * 2**20  # of the packed records
ARCHIVE = "records.zip"
TEST_LINE = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")


@dataclass
class Row:
    """A line of the last table. good: None if nothing was asked for."""

    part: str
    outcome: str
    good: bool | None
    seconds: float


@dataclass
class Machine:
    """Where and with what everything runs.

    Attributes:
        options: Of the command line.
        work: A folder for everything that is not to be kept.
        ends: When the time is up, on the clock of time.monotonic.
        environment: Of what is started.
        rows: The last table.
    """

    options: argparse.Namespace
    work: Path
    ends: float
    environment: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    @property
    def outputs(self) -> Path:
        return self.work / "outputs"

    def left(self) -> float:
        """Seconds for parts that have not begun."""
        return self.ends - PACKING - time.monotonic()

    def run(self, command: list[str], seconds: float, log: str, **more: str) -> tuple[int, str]:
        """Run a command for at most so many seconds, and show and keep what it prints.

        Returns:
            The exit code, negative if it was stopped, and the output.
        """
        print(f"$ {' '.join(command)}   (at most {seconds:.0f} s)", flush=True)
        path = self.options.records / log
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        until = time.monotonic() + max(seconds, 1.0)
        # The last one is for what can't be killed.
        stops = [(signal.SIGINT, GRACE), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)]
        stopped = False
        with path.open("ab") as file:

            def show() -> None:
                if some := process.stdout.read():
                    for out in (file, sys.stdout.buffer):
                        out.write(some)
                        out.flush()

            start = path.stat().st_size
            try:
                while process.poll() is None:
                    show()
                    time.sleep(0.1)
                    if time.monotonic() < until:
                        continue
                    if not stops:
                        break
                    (number, patience), stopped = stops.pop(0), True
                    print(f"stopping it ({number.name}): its time is up", flush=True)
                    _signal_group(process.pid, number)
                    until = time.monotonic() + patience
            finally:
                _signal_group(process.pid, signal.SIGKILL)
            show()
        with path.open(errors="replace") as file:
            file.seek(start)
            output = file.read()
        code = process.poll()
        return (-1 if stopped or code is None else code), output


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def tests(machine: Machine) -> None:
    """The suite marked `gpu`."""
    if importlib.util.find_spec("pytest") is None and not (machine.work / "site/pytest").exists():
        machine.rows.append(Row("tests", "pytest is missing: add it to the wheels", False, 0.0))
        return
    start = time.monotonic()
    command = [sys.executable, "-u", "-m", "pytest", "tests/gpu", "-m", "gpu", "-vv"]
    command += ["-p", "no:cacheprovider", "--durations=10", "--tb=short"]
    code, output = machine.run(
        [*command, "-o", "faulthandler_timeout=60"],
        machine.left() * SHARES["tests"],
        "tests.log",
        FM_AL_GPU_TESTS_ON=machine.options.device,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    outcomes = Counter(found[2] for line in output.splitlines() if (found := TEST_LINE.match(line)))
    text = ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(outcomes.items()))
    if code < 0:
        text += ", stopped: out of time"
    good = code == 0 and outcomes["PASSED"] > 0
    machine.rows.append(Row("tests", text or "none ran", good, time.monotonic() - start))


def benchmark(machine: Machine) -> None:
    """The GPU benchmark, which checks its limits."""
    start = time.monotonic()
    results = machine.work / "benchmark.json"
    command = [sys.executable, "-u", "-m", "tests.benchmarks.gpu", "--json", str(results)]
    command += ["--device", machine.options.device]
    command += ["--small"] if machine.options.small else []
    code, _ = machine.run(command, machine.left() * SHARES["benchmark"], "benchmark.log")
    found = json.loads(results.read_text()) if results.exists() else []
    for each in found:
        outcome = f"{each['measured']} ({each['limit']})" if each["limit"] else each["measured"]
        machine.rows.append(Row(f"  {each['name']}", outcome, each["good"], each["seconds"]))
    outcome = "done" if code == 0 else "stopped: out of time" if code < 0 else f"exit code {code}"
    machine.rows.append(Row("benchmark", outcome, code == 0, time.monotonic() - start))


def runs(machine: Machine) -> None:
    """As many runs of presets as fit, several at once."""
    options = machine.options
    with mps(machine):
        for experiment in options.runs:
            start = time.monotonic()
            if machine.left() < GRACE:
                machine.rows.append(Row(f"runs of {experiment}", "no time was left", None, 0.0))
                continue
            command = [sys.executable, "-u", "-m", "fm_al", "-m", f"experiment={experiment}"]
            command += ["hydra/launcher=local", "tracker=none", "download=false"]
            command += [f"output_dir={machine.outputs}", f"device={options.device}"]
            command += [f"hydra.launcher.runs_per_gpu={options.runs_per_gpu}"]
            code, _ = machine.run([*command, *options.overrides], machine.left(), "runs.log")
            begun = [path.parent for path in machine.outputs.glob(f"{experiment}/**/rounds.jsonl")]
            finished = sum((folder / "result.json").exists() for folder in begun)
            outcome = f"{finished} finished, {len(begun) - finished} begun"
            outcome += {0: "", -1: ", stopped: out of time"}.get(code, f", exit code {code}")
            good = code <= 0 and bool(begun)
            machine.rows.append(
                Row(f"runs of {experiment}", outcome, good, time.monotonic() - start)
            )


@contextlib.contextmanager
def mps(machine: Machine) -> Iterator[None]:
    """CUDA's server by which processes share a GPU at the same time, where it is installed."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None or machine.options.device != "cuda":
        yield
        return
    folders = {
        "CUDA_MPS_PIPE_DIRECTORY": machine.work / "mps",
        "CUDA_MPS_LOG_DIRECTORY": machine.work / "mps-log",
    }
    for name, folder in folders.items():
        folder.mkdir()
        machine.environment[name] = str(folder)
    started = subprocess.run(
        [control, "-d"], env=machine.environment, stdin=subprocess.DEVNULL, timeout=20
    )
    if started.returncode:
        print(f"{control} -d: exit code {started.returncode}; runs share the GPU without it")
        for name in folders:
            del machine.environment[name]
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([control], env=machine.environment, input=b"quit\n", timeout=GRACE)


def packed(machine: Machine) -> Row:
    """The records in one archive, what counts most first, until it is full."""
    start = time.monotonic()
    files = [path for path in machine.outputs.rglob("*") if path.is_file()]
    kinds = ("result.json", "rounds.jsonl", "provenance.json", "config.yaml")
    ranked = {name: rank for rank, name in enumerate(kinds)}
    files = [path for path in files if path.suffix in (".json", ".jsonl", ".yaml", ".log")]
    files.sort(key=lambda path: (ranked.get(path.name, len(kinds)), path))
    target = machine.options.records / ARCHIVE
    with tempfile.TemporaryDirectory(dir=machine.options.records) as folder:
        made, size, left_out = Path(folder, ARCHIVE), 0, 0
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                # As large as it can get: incompressible, with its name twice and two headers.
                most = path.stat().st_size + 2 * len(str(path)) + 200
                if size + most > MOST_BYTES:
                    left_out += 1
                    continue
                name = str(path.relative_to(machine.outputs))
                archive.write(path, name)
                size += archive.getinfo(name).compress_size + 2 * len(name) + 200
        made.replace(target)
    outcome = f"{len(files) - left_out} files, {target.stat().st_size / 2**20:.2f} MiB"
    outcome += f", {left_out} left out: {ARCHIVE} is full" if left_out else ""
    return Row("records", outcome, not left_out, time.monotonic() - start)


def print_table(machine: Machine) -> None:
    lines = [f"{'':7}{'what':42}{'seconds':>9}   outcome"]
    marks = {True: "ok", False: "FAILED", None: "-"}
    for row in machine.rows:
        lines.append(f"{marks[row.good]:7}{row.part:42}{row.seconds:9.1f}   {row.outcome}")
    text = "\n".join(lines)
    print(f"\n{text}", flush=True)
    (machine.options.records / "table.txt").write_text(text + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launchers/gpu.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for everything (10)")
    parser.add_argument(
        "--records", type=Path, default=ROOT / "outputs/gpu", help="folder of what is kept"
    )
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / "wheels", help="folder of wheels, if there is one"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / "data",
        help="folder of data sets, or of .tar archives of such; those named cifar10_jpeg* hold "
        "what is in cifar10-jpeg",
    )
    parser.add_argument("--runs", default="imbalanced_cifar10", help="presets, separated by commas")
    parser.add_argument("--runs-per-gpu", type=int, default=16, help="runs at once on a GPU (16)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a benchmark of seconds, no limits")
    parser.add_argument("overrides", nargs="*", help="options of the runs, such as seed=0,1")
    options = parser.parse_args()
    options.parts, options.runs = options.parts.split(","), options.runs.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    if options.minutes * 60 <= PACKING:
        parser.error(f"--minutes={options.minutes}: should be more than {PACKING / 60}")
    for name in ("records", "wheels", "data"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def unpacked(data: Path, work: Path) -> Path:
    """The folder of data sets: as it is, or with its archives unpacked into `work`."""
    archives = sorted(data.glob("*.tar*"))
    if not archives:
        return data
    for archive in archives:
        start = time.monotonic()
        inner = "cifar10-jpeg" if archive.name.startswith("cifar10_jpeg") else "."
        with tarfile.open(archive) as file:
            file.extractall(work / "data" / inner, filter="data")
        print(f"unpacked {archive.name} in {time.monotonic() - start:.1f} s", flush=True)
    return work / "data"


def prepared(options: argparse.Namespace, work: Path, ends: float) -> Machine:
    """Installs the wheels into a folder of their own, unpacks data and earlier records."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if wheels := sorted(map(str, options.wheels.glob("*.whl"))):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--no-compile", "--disable-pip-version-check", "--target", str(work / "site")]
        subprocess.run([*command, *wheels], check=True, timeout=120)
        paths.insert(0, str(work / "site"))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "FM_AL_DATA_DIR": str(unpacked(options.data, work)),
        "TMPDIR": str(work),
    }
    machine = Machine(options, work, ends, environment)
    earlier = options.records / ARCHIVE
    if earlier.exists():
        with zipfile.ZipFile(earlier) as archive:
            archive.extractall(machine.outputs)
        print(f"resuming the records in {earlier}", flush=True)
    return machine


def main() -> None:
    options = parsed()
    ends = time.monotonic() + 60 * options.minutes
    options.records.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="fm-al-gpu-") as folder:
        machine = prepared(options, Path(folder), ends)
        try:
            for part in (tests, benchmark, runs):
                if part.__name__ in options.parts:
                    part(machine)
        finally:
            machine.rows.append(packed(machine))
            print_table(machine)
    sys.exit(any(row.good is False for row in machine.rows))


if __name__ == "__main__":
    main()
