"""The YAML files that configurations are composed from, checked as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult
from omegaconf._utils import split_key
from omegaconf.errors import OmegaConfBaseException

from fm_al.errors import ConfigError

MOST_VALUES = 100_000  # of a file, with its aliases written out
STRING, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


class CheckedFiles(FileConfigSource):
    """The files of a folder, as Hydra reads them. Raises ConfigError, with file and line, for one
    that cannot be read."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Called by Hydra."""
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            _check(path)
            loaded = super().load_config(config_path)
            package = loaded.header.get("package")
            if package is not None and not split_key(package):
                raise ConfigError(f"{path}: @package {package}: is no key")
            return loaded
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise ConfigError(f"{where}: {error.problem or error.context}") from error
        except ConfigError:
            raise
        except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            said = " ".join(str(error).split()).partition(" full_key: ")[0]
            raise ConfigError(f"{path}: {said.partition(';')[0]}") from error
        except RecursionError as error:
            raise ConfigError(f"{path}: is nested too deeply") from error
        except OSError as error:
            raise ConfigError(f"{path}: can't be read ({error.strerror})") from error


def _check(path: Path) -> None:
    """Raise ConfigError for what YAML allows and Hydra does not."""
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None
    root = yaml.compose(text, yaml.SafeLoader)
    if root is None:
        return
    try:
        size = _size(root, {})
    except _Cycle as found:
        line = _line(found.node)
        raise ConfigError(f"{path}:{line}: the anchor stands for something it is part of") from None
    if size > MOST_VALUES:
        raise ConfigError(f"{path}: its aliases stand for {size:,} values; {MOST_VALUES:,} at most")
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:{_line(root)}: should be a mapping: key: value")
    for key, value in root.value:
        if key.value == "defaults":
            for node, wrong in _wrong_defaults(value):
                raise ConfigError(f"{path}:{_line(node)}: {wrong}")


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


class _Cycle(Exception):
    def __init__(self, node: yaml.Node) -> None:
        super().__init__()
        self.node = node


def _size(node: yaml.Node, known: dict[yaml.Node, int | None]) -> int:
    """How many values a node has, with aliases written out. known: the sizes of nodes, None for
    those that contain this one."""
    if node in known:
        size = known[node]
        if size is None:
            raise _Cycle(node)
        return size
    known[node] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[node] = size = 1 + sum(_size(child, known) for child in children)
    return size


def _wrong_defaults(defaults: yaml.Node) -> Iterator[tuple[yaml.Node, str]]:
    if not isinstance(defaults, yaml.SequenceNode):
        yield defaults, "defaults should be a list: [strategy/badge, _self_]"
        return
    if [item.value for item in defaults.value].count("_self_") > 1:
        yield defaults, "defaults should name _self_ once"
    for item in defaults.value:
        if isinstance(item, yaml.MappingNode):
            if len(item.value) != 1:
                yield item, "an item of defaults should have one key: group: option"
                continue
            key, value = item.value[0]
            options = value.value if isinstance(value, yaml.SequenceNode) else [value]
            if key.tag != STRING or any(
                not isinstance(option, yaml.ScalarNode) or option.tag not in (STRING, NULL)
                for option in options
            ):
                yield item, "an item of defaults should name an option: group: option"
        elif item.tag != STRING or not isinstance(item, yaml.ScalarNode):
            yield item, "an item of defaults should be group: option, or the name of a file"
