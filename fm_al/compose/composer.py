"""Composes configurations by Hydra, from `conf/` and a folder of the user's own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import (
    CachingConfigRepository,
    ConfigRepository,
    IConfigRepository,
)
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from fm_al.compose.arguments import CHOSEN_BELOW, INSTEAD, parsed, shown
from fm_al.compose.config_files import CheckedFiles
from fm_al.compose.nested import with_nested_choices
from fm_al.config import GROUPS, no_such_option, unknown_options
from fm_al.errors import ConfigError

CONF = Path(__file__).parents[1] / "conf"
NAME = "config"
OF_SUBMITIT = "submitit_"
MOST_LOADS = 50  # of one file in one composition, which are a handful
IN_OUR_WORDS = {
    r"Could not append to config. An item is already at '(.+?)'": "+{0}: is there; leave + out",
    r"Could not delete from config. '(.+?)' does not exist": "~{0}: there is no {0}",
    r"Could not delete from config. The value of '(.+?)' is (.*) and": "~{0}: its value is {1}",
    r"Error resolving interpolation '(.+?)'": "defaults: {0} can't be resolved",
}
# Where Hydra's own advice begins, which does not fit fm-al's command line.
UNHELPFUL = (
    r" ?(To append to your (config|default list) use|See https://|(Config s|S)earch path:).*"
)
# Options without effect in fm-al, with the values of conf/config.yaml and Hydra.
UNHEEDED = {
    "hydra.run.dir": ".",
    "hydra.sweep.dir": ".",
    "hydra.sweep.subdir": ".",
    "hydra.output_subdir": None,
    "hydra.job.chdir": None,
    "hydra.mode": None,
    "hydra.verbose": False,
}


class Composer(ConfigLoaderImpl):
    """Composes configurations. Raises ConfigError for what cannot be composed.

    The command line wins over a preset. If it chooses another option of a group, the preset's
    settings that do not exist in that option are left out.

    Attributes:
        left_out: Lines that say so, in order.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        """Read the groups. config_dir: a folder whose files add to those of `conf/`."""
        hydra.version.setbase("1.3")
        path = create_config_search_path(str(CONF))
        if config_dir is not None:
            schema = SearchPathQuery(provider="schema")
            path.prepend("command-line", f"file://{Path(config_dir).absolute()}", anchor=schema)
        super().__init__(path)
        self.repository.sources = [
            CheckedFiles(source.provider, source.path) if source.scheme() == "file" else source
            for source in self.repository.sources
        ]
        self.hydra = _Hydra(task_name="fm-al", config_loader=self)
        self.left_out: dict[str, None] = {}
        self._is_group: dict[str, bool] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a configuration, with Hydra's own node. Raises ConfigError."""
        return self.load_configuration(NAME, list(overrides))

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode = RunMode.RUN,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Called by Hydra."""
        try:
            config = super().load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        except ConfigError:
            raise
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(self._explained(error)) from error
        if config_name is None:
            return config
        for key, heeded in UNHEEDED.items():
            if (value := OmegaConf.select(config, key)) != heeded:
                instead = next(INSTEAD[each] for each in INSTEAD if key.startswith(each))
                raise ConfigError(f"{key}={value}: has no effect here; {instead}")
        return config

    def apply(self, overrides: Sequence[str], config: DictConfig) -> None:
        """Set options of a configuration that was composed without them. Raises ConfigError."""
        try:
            self._apply_overrides_to_config([parsed(text) for text in overrides], config)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(self._explained(error)) from error

    def chooses(self, override: Override) -> bool:
        """Whether an override chooses the option of a group."""
        key = override.key_or_group
        if key not in self._is_group:
            self._is_group[key] = self.repository.group_exists(key)
        return self._is_group[key] and not isinstance(override.value(), dict)

    def complete(self, overrides: list[str]) -> None:
        """Install completion into a shell, or answer a shell's request."""
        if "COMP_LINE" not in os.environ and any(text.startswith("query=") for text in overrides):
            raise ConfigError("--shell-completion query=...: is for a shell to ask")
        try:
            self.hydra.shell_completion(NAME, overrides)
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"--shell-completion: {explained(error)}") from error

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        typed = [parsed(text) for text in overrides]
        choices = {each.key_or_group: str(each.value()) for each in typed if self.chooses(each)}
        repository = _Repository(self.repository, choices)
        if config_name is not None:
            typed = with_nested_choices(typed, repository, config_name)
            nested = {each.package: str(each.value()) for each in typed if each.package}
            repository.typed |= nested
        return typed, repository

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        config = super()._compose_config_from_defaults_list(defaults, repo)
        typed = repo.typed if isinstance(repo, _Repository) else {}
        replaced = [key for key in typed if key in GROUPS or "." in key]
        of_preset = [default for default in defaults if not _is_stock(default)]
        if not (replaced and of_preset):
            return config
        stock = super()._compose_config_from_defaults_list(
            [default for default in defaults if _is_stock(default)], repo
        )
        for chosen in replaced:
            node: Any = OmegaConf.to_container(OmegaConf.select(config, chosen))
            if not _has_more(node, OmegaConf.to_container(OmegaConf.select(stock, chosen))):
                continue  # without importing what it describes
            gone = []
            for key in unknown_options(chosen, node):
                parent, _, name = key.rpartition(".")
                if name not in OmegaConf.select(stock, parent, default={}):
                    del OmegaConf.select(config, parent)[name]
                    gone.append(key)
            if gone:
                self.note_left_out(gone, f"{chosen}={typed[chosen]}")
        return config

    def _explained(self, error: Exception) -> str:
        """Explain an error, and name the file if the command line is not its cause."""
        text = explained(error)
        named = re.match(r"In '([^']+)': ", " ".join(str(error).split()))
        if named is None or named[1] in (NAME, "hydra/config"):
            return text
        path = named[1]
        for source in self.repository.get_sources():
            if source.is_config(path):
                path = str(Path(source.path, f"{path}.yaml"))
                break
        return f"{path}: {text.removeprefix(named[0])}"

    def note_left_out(self, keys: Sequence[str], choice: str) -> None:
        self.left_out[f"{choice} has no {', '.join(keys)}: left out of the preset"] = None


def _is_stock(default: ResultDefault) -> bool:
    """Whether a file is the primary one or an option of a group, rather than a preset."""
    if default.primary or _is_of_group(default.config_path):
        return True
    is_nested = bool(default.package)
    return is_nested and (default.parent == NAME or _is_of_group(default.parent))


def _is_of_group(path: str | None) -> bool:
    return str(path).split("/")[0] in (*GROUPS, "hydra")


def _has_more(node: Any, stock: Any) -> bool:
    """Whether a node has options, at any depth, that the other one lacks."""
    return isinstance(node, dict) and any(
        not isinstance(stock, dict) or name not in stock or _has_more(value, stock[name])
        for name, value in node.items()
    )


class _Hydra(Hydra):
    """Its help names a group as it is typed."""

    def format_config_groups(self, predicate: Callable[[str], bool], compact: bool = True) -> str:
        lines = super().format_config_groups(predicate, compact)
        for group, key in CHOSEN_BELOW.items():
            lines = re.sub(rf"^{group}:", f"{key}:", lines, flags=re.MULTILINE)
        return lines


class _Repository(CachingConfigRepository):
    """The files that one composition reads. typed: the option chosen of each group, nested ones by
    their key."""

    def __init__(self, delegate: ConfigRepository, typed: dict[str, str]) -> None:
        super().__init__(delegate)
        self.typed = typed
        self._loads: Counter[str] = Counter()

    def load_config(self, config_path: str) -> ConfigResult | None:
        self._loads[config_path] += 1
        loaded = super().load_config(config_path)
        if self._loads[config_path] > MOST_LOADS and loaded is not None:
            file = Path(loaded.path.removeprefix("file://"), f"{config_path}.yaml")
            raise ConfigError(f"{file}: its defaults lead back to itself")
        return loaded


def explained(error: Exception) -> str:
    """Explain why a composition failed, in one line that names what is accepted."""
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ValidationError):
        said = str(cause.msg).splitlines()[0]
        return f"{cause.full_key}: {'should be a list: [...]' if 'ListConfig' in said else said}"
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        parent, _, name = str(cause.full_key).rpartition(".")
        names = [str(name) for name in cause.parent_node]
        there = [name for name in names if not name.startswith("_") and name != "hydra"]
        if not names:
            return f"{cause.full_key}: is new; put + before it: +{cause.full_key}=..."
        if name in there:  # a number cannot be part of a key
            return f"{cause.full_key}: is set with all of {parent}: '{parent}={{{name}: ...}}'"
        return no_such_option(parent, name, there)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = [each for each in error.options if not each.startswith(OF_SUBMITIT)]
        return no_such_option(group, shown(name), options, joint="=")
    text = " ".join(str(error).split()) or " ".join(str(cause).split())
    for pattern, ours in IN_OUR_WORDS.items():
        if found := re.match(pattern, text):
            return ours.format(*found.groups())
    return re.sub(UNHELPFUL, "", text)


def resolved(config: DictConfig) -> Any:
    """Resolve a configuration to plain values. Raises ConfigError for a missing value, or one that
    refers to something that does not exist."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ConfigError(f"{key}: has no default; give it as {key}=...") from None
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(_unresolved(config, error)) from error


def _unresolved(config: DictConfig, error: Exception) -> str:
    key = str(getattr(error, "full_key", None) or "")
    plain: Any = OmegaConf.to_container(config, resolve=False)
    place = config._get_full_key(None)
    for part in re.findall(r"[^.\[\]]+", key.removeprefix(place) if place else key):
        plain = plain[int(part) if isinstance(plain, list) else _key_like(part, plain)]
    said = " ".join(str(getattr(error, "msg", error)).split())
    reasons = {
        r"Interpolation key '(.+?)' not found": "there is no {}",
        r"Environment variable '(.+?)' not found": "the environment has no {}",
        r"Unsupported interpolation type (\S+)": "there is no resolver {}",
        r"Recursive interpolation|maximum recursion": "it refers to itself",
        r"env\(\) missing": "oc.env needs the name of a variable: ${{oc.env:NAME}}",
    }
    for pattern, reason in reasons.items():
        if found := re.search(pattern, said):
            return f"{key}={shown(str(plain))}: {reason.format(*found.groups())}"
    return (
        f"{key}={shown(str(plain))}: can't be resolved ({said.removesuffix(f' full_key: {key}')})"
    )


def _key_like(text: str, mapping: dict[Any, Any]) -> Any:
    """The key that an error message shows as this text."""
    return next((key for key in mapping if str(key) == text), text)
