"""Folders of features: what they are made of, interrupted, shared and damaged."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fm_al.data.base import ImageData, Split
from fm_al.device import Device
from fm_al.errors import RunError
from fm_al.features import folder as folders
from fm_al.features.base import Extractor
from fm_al.features.folder import fill, make_folder
from fm_al.features.pca import PCA
from fm_al.records.lock import Lock, locked
from tests.helpers.configs import built

DEVICE: Device = built("device", "cpu", threads=1, scoring_batch_size=16)
FLOAT32 = np.dtype(np.float32)


def data(seed: int = 0, names: tuple[str, ...] = ("a", "b", "c")) -> ImageData:
    generator = torch.Generator().manual_seed(seed)
    train, test = (
        Split(
            torch.randint(256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator),
            torch.arange(n) % 3,
        )
        for n in (50, 20)
    )
    return ImageData(train, test, names)


def loaded(folder: Path) -> ImageData:
    return built("dataset", "features", root=str(folder)).load(folder, download=False)


def test_a_folder_is_a_data_set_of_the_features(tmp_path: Path) -> None:
    extractor, images = PCA(dimensions=5), data()
    assert not make_folder(tmp_path / "f", images, extractor, DEVICE, FLOAT32)
    read = loaded(tmp_path / "f")
    assert read.class_names == images.class_names
    compute = extractor.fitted(images.train.images, torch.device("cpu"))
    for split in ("train", "test"):
        features = getattr(read, split)
        expected = compute(getattr(images, split).images).float()
        torch.testing.assert_close(features.images[:, :, 0, 0], expected)
        assert torch.equal(features.targets, getattr(images, split).targets)


def test_a_complete_folder_is_recognised_and_a_damaged_one_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, data(), PCA(), DEVICE, FLOAT32)
    before = (tmp_path / "train.npy").read_bytes()
    fitted = PCA.fitted
    monkeypatch.setattr(PCA, "fitted", lambda *_: pytest.fail("computed again"))
    assert make_folder(tmp_path, data(), PCA(), DEVICE, FLOAT32)
    monkeypatch.setattr(PCA, "fitted", fitted)
    (tmp_path / "train.npy").write_bytes(before[:-1] + b"x")
    assert not make_folder(tmp_path, data(), PCA(), DEVICE, FLOAT32)
    assert (tmp_path / "train.npy").read_bytes() == before
    (tmp_path / "classes.txt").unlink()
    assert not make_folder(tmp_path, data(), PCA(), DEVICE, FLOAT32)
    assert loaded(tmp_path).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"extractor": PCA(dimensions=3)}, "extractor.dimensions"),
        ({"extractor": PCA(normalize=True)}, "extractor.normalize"),
        ({"data": data(names=("a", "b", "x"))}, "class_names"),
        ({"data": data(seed=1)}, "test_images, train_images"),
        ({"dtype": np.dtype(np.float16)}, "dtype"),
    ],
)
def test_other_features_are_refused(tmp_path: Path, other: dict[str, Any], differs: str) -> None:
    make_folder(tmp_path, data(), PCA(), DEVICE, FLOAT32)
    arguments = {"data": data(), "extractor": PCA(), "device": DEVICE, "dtype": FLOAT32} | other
    with pytest.raises(RunError, match=rf"differ in {differs}; use another folder, or delete"):
        make_folder(tmp_path, **arguments)


def test_files_of_another_origin_are_left_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.zeros(3))
    with pytest.raises(RunError, match=r"holds train\.npy and no features\.json"):
        make_folder(tmp_path, data(), PCA(), DEVICE, FLOAT32)
    assert np.load(tmp_path / "train.npy").shape == (3,)


class Stopping(Extractor):
    """Stops at the images of a batch whose first pixel has this value."""

    stop_at: int | None = None
    seen: list[int]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "seen", [])

    def fitted(self, images: Tensor, device: torch.device):
        def compute(batch: Tensor) -> Tensor:
            first = int(batch[0, 0, 0, 0])
            if first == self.stop_at:
                raise KeyboardInterrupt
            self.seen.append(first)
            return batch[:, 0, 0, :2].float()

        return compute


def numbered() -> ImageData:
    """Each image's first pixel is its number; those of the test set follow the pool's."""
    numbers = torch.zeros(70, 1, 4, 4, dtype=torch.uint8)
    numbers[:, 0, 0, 0] = torch.arange(70)
    targets = torch.arange(70) % 3
    return ImageData(
        Split(numbers[:50], targets[:50]), Split(numbers[50:], targets[50:]), ("a", "b", "c")
    )


@pytest.mark.parametrize("stop_at", [0, 32, 50, 66])
def test_an_interrupted_folder_resumes_at_the_batch(
    tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_al.features.matrix.SAVE_EVERY", -1.0)
    extractor = Stopping()
    object.__setattr__(extractor, "stop_at", stop_at)
    with pytest.raises(KeyboardInterrupt):
        make_folder(tmp_path, numbered(), extractor, DEVICE, FLOAT32)
    object.__setattr__(extractor, "stop_at", None)
    make_folder(tmp_path, numbered(), extractor, DEVICE, FLOAT32)
    assert extractor.seen == [0, 16, 32, 48, 50, 66]
    assert loaded(tmp_path).train.images[:, 0, 0, 0].tolist() == [*range(50)]


def test_features_that_are_not_finite_or_too_large_are_named(tmp_path: Path) -> None:
    class Bad(Extractor):
        def fitted(self, images: Tensor, device: torch.device):
            return lambda batch: torch.full((len(batch), 2), 1e5)

    with pytest.raises(RunError, match=r"^dtype=float16: some features are too large; use dtype=f"):
        make_folder(tmp_path, data(), Bad(), DEVICE, np.dtype(np.float16))

    class Worse(Extractor):
        def fitted(self, images: Tensor, device: torch.device):
            return lambda batch: torch.where(batch[:, 0, 0, :2] > 0, torch.nan, 1.0)

    one = numbered()
    one.train.images[:, 0, 0, 0] = 0
    one.train.images[33] = 1
    with pytest.raises(RunError, match=r"^the features of image 33 are not finite$"):
        make_folder(tmp_path / "other", one, Worse(), DEVICE, FLOAT32)


def _fill(folder: Path) -> None:
    def write(lock: Lock) -> None:
        with (folder / "count").open("a") as file:
            file.write("computed\n")
        (folder / "file").write_text("features")

    fill(folder, {"a": 1}, "cpu", ["file"], write)


def test_several_processes_compute_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path / "f",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "f" / "count").read_text() == "computed\n"


@pytest.mark.faults
def test_a_folder_that_another_process_fills_is_waited_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "f").mkdir()
    context = multiprocessing.get_context("spawn")  # a fork would hold the lock, too
    with locked(tmp_path / "f" / folders.LOCK):
        process = context.Process(target=_fill, args=(tmp_path / "f",))
        process.start()
        process.join(3)
        assert process.is_alive()
        assert not (tmp_path / "f" / "file").exists()
    process.join(30)
    assert (tmp_path / "f" / "file").exists()
