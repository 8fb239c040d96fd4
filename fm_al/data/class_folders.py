"""Lists a folder of images, `<root>/<train|test>/<class>/<image>`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fm_al.data.base import escaped
from fm_al.data.decoding import extensions
from fm_al.data.parallel import in_threads
from fm_al.errors import ConfigError

SPLITS = ("train", "test")
MAX_NAMED = 10


@dataclass(frozen=True)
class ClassFolders:
    """The classes and images of a folder.

    Attributes:
        root: The folder, as `dataset.root` gives it.
        class_names: In alphabetical order.
        counts: By split, the number of images of every class.
        names: Paths of the images below the root: split by split, class by class, in alphabetical
            order.
        left_out: By folder, the number of files that are not read, by kind.
    """

    root: str
    class_names: list[str]
    counts: dict[str, list[int]]
    names: list[str]
    left_out: dict[str, Counter[str]]

    @classmethod
    def of(cls, root: str) -> ClassFolders:
        """List a folder. Raises ConfigError if it has another layout."""
        for needed in (Path(root), *(Path(root, split) for split in SPLITS)):
            if not needed.is_dir():
                raise ConfigError(
                    f"dataset.root={root}: {needed.absolute()} is not a folder; images should "
                    "be in <root>/train/<class>/ and <root>/test/<class>/"
                )
        found = {split: _listed(Path(root, split), nested=False) for split in SPLITS}
        class_names = found["train"].folders
        if len(class_names) < 2:
            raise ConfigError(
                f"dataset.root={root}: {Path(root, 'train').absolute()} has {len(class_names)} "
                "folders of images; it should have one per class, two at least"
            )
        for name in found["test"].folders:
            if name not in class_names:
                raise ConfigError(
                    f"dataset.root={root}: class {escaped(name)} is in test but not in train"
                )
        names: list[str] = []
        counts: dict[str, list[int]] = {split: [] for split in SPLITS}
        left_out = {}
        for split in SPLITS:
            outside = Counter(Path(name).suffix.lower() for name in found[split].images)
            left_out[split] = Counter(
                {
                    f"{kind} outside the folders of classes": count
                    for kind, count in (found[split].left_out + outside).items()
                }
            )
            for name in class_names:
                folder = f"{split}/{name}"
                listed = _listed(Path(root, folder), nested=True)
                if not listed.images:
                    others = f", but {_by_kind(listed.left_out)}" if listed.left_out else ""
                    raise ConfigError(
                        f"dataset.root={root}: class {escaped(name)} has no images in {split}"
                        f"{others}; add some or remove the class (images are "
                        f"{', '.join(extensions())})"
                    )
                names += [f"{folder}/{image}" for image in listed.images]
                counts[split].append(len(listed.images))
                left_out[folder] = listed.left_out
        left_out = {folder: kinds for folder, kinds in left_out.items() if kinds}
        return cls(root, class_names, counts, names, left_out)

    def left_out_warning(self) -> str | None:
        """Say in one line which files are not read. None if all are."""
        if not self.left_out:
            return None
        total = sum((kinds for kinds in self.left_out.values()), Counter[str]())
        places = [
            f"{escaped(folder)}: {_by_kind(kinds)}" for folder, kinds in self.left_out.items()
        ]
        files = "1 file is" if total.total() == 1 else f"{total.total()} files are"
        return (
            f"dataset.root={self.root}: {files} left out, {_by_kind(total)} "
            f"({_abridged(places, '; ')}); images are {', '.join(extensions())}, directly in "
            "the folder of a class"
        )

    def digests(self) -> tuple[list[str | None], dict[int, str]]:
        """Hash the bytes of every image.

        Returns:
            SHA-256 digests, None for a file that cannot be read; and the reasons, by position.
        """
        unreadable: dict[int, str] = {}

        def digest(position: int) -> str | None:
            try:
                return hashlib.sha256(self.content(position)).hexdigest()
            except OSError as error:
                unreadable[position] = self._reason(position, error)
                return None

        return in_threads(f"hashing {self.root}", digest, len(self.names)), unreadable

    def content(self, position: int) -> bytes:
        """Read an image's bytes. Raises OSError."""
        return Path(self.root, self.names[position]).read_bytes()

    def _reason(self, position: int, error: OSError) -> str:
        path = Path(self.root, self.names[position])
        if path.is_symlink() and not path.exists():
            return f"a link to {escaped(str(path.readlink()))}, which does not exist"
        return error.strerror or str(error)

    def duplicates_warning(self, digests: list[str | None]) -> str | None:
        """Say in one line which files are in train and test, or in two classes. None if none."""
        classes = [
            (split, number)
            for split in SPLITS
            for number, count in enumerate(self.counts[split])
            for _ in range(count)
        ]
        first: dict[str, int] = {}
        in_train = set(digests[: sum(self.counts["train"])])
        in_both: list[tuple[int, int]] = []
        in_two_classes: dict[str, tuple[int, int]] = {}
        for position, digest in enumerate(digests):
            if digest is None:
                continue
            earlier = first.setdefault(digest, position)
            if classes[position][0] == "test" and digest in in_train:
                in_both.append((position, earlier))
            if classes[position][1] != classes[earlier][1]:
                in_two_classes.setdefault(digest, (position, earlier))
        found = []
        if in_both:
            are = "files of test are" if len(in_both) > 1 else "file of test is"
            found.append(f"{len(in_both)} {are} also in train ({self._pair(in_both[0])})")
        if in_two_classes:
            are = "files are" if len(in_two_classes) > 1 else "file is"
            example = self._pair(next(iter(in_two_classes.values())))
            found.append(f"{len(in_two_classes)} {are} in more than one class ({example})")
        return f"dataset.root={self.root}: {' and '.join(found)}" if found else None

    def _pair(self, positions: tuple[int, int]) -> str:
        this, that = (escaped(self.names[position]) for position in positions)
        return f"{this} is {that}"

    def damage_message(self, reasons: Mapping[int, str]) -> str:
        """Say in one line how many images cannot be read, and name the first of them.

        Args:
            reasons: By an image's position.
        """
        one = len(reasons) == 1
        named = [f"{escaped(self.names[i])} ({reasons[i]})" for i in sorted(reasons)]
        return (
            f"dataset.root={self.root}: {len(reasons)} image{'' if one else 's'} can't be read: "
            f"{_abridged(named, '; ')}; repair or remove {'it' if one else 'them'}"
        )


@dataclass(frozen=True)
class _Listed:
    folders: list[str]
    images: list[str]
    left_out: Counter[str]


def _listed(directory: Path, nested: bool) -> _Listed:
    """List a folder without its hidden files.

    Args:
        nested: Whether its subfolders are left out, and counted as such.
    """
    folders: list[str] = []
    images: list[str] = []
    left_out = Counter[str]()
    if not directory.is_dir():
        return _Listed(folders, images, left_out)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # DirEntry raises for a broken or circular link, which counts as an image that cannot be
            # read.
            target = Path(entry.path) if entry.is_symlink() else entry
            if target.is_dir():
                folders.append(entry.name)
                if nested and (count := _files_below(entry.path)):
                    left_out["in nested folders"] += count
            elif not target.is_file() and (not entry.is_symlink() or Path(entry.path).exists()):
                left_out["pipes or devices"] += 1
            elif entry.name.lower().endswith(extensions()):
                images.append(entry.name)
            else:
                left_out[Path(entry.name).suffix.lower() or "without extension"] += 1
    return _Listed(sorted(folders), sorted(images), left_out)


def _files_below(folder: str) -> int:
    return sum(not name.startswith(".") for _, _, files in os.walk(folder) for name in files)


def _by_kind(kinds: Counter[str]) -> str:
    listed = [f"{count} {escaped(kind)}" for kind, count in kinds.most_common()]
    return _abridged(listed, ", ")


def _abridged(listed: list[str], joint: str) -> str:
    """Join the first few entries of a list, and say how many more there are."""
    if len(listed) > MAX_NAMED:
        listed = [*listed[:MAX_NAMED], f"and {len(listed) - MAX_NAMED} more"]
    return joint.join(listed)
