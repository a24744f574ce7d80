"""YAML files as they are read here: plain values, within bounds, each with its line; a key written twice is refused."""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from labloop.errors import ConfigError

SIZE = 2**20
"""Bytes that a file may have."""

DEPTH = 50
"""Levels that may stand in each other, aliases followed."""

NODES = 100_000
"""Values that a file may hold, aliases followed: a few lines of them can stand for billions."""

_TOO_MUCH = f"more than {DEPTH} levels stand in each other, or there are more than {NODES:,} values, aliases followed"


@dataclass(frozen=True)
class Document:
    """What a file holds, and where."""

    source: str
    values: dict[Any, Any]
    root: yaml.Node

    def where(self, place: Sequence[str | int]) -> str:
        """Give the path of keys as people read it, with the line where what is there stands, as far as it is there."""
        node, line = self.root, None
        for part in place:
            found = _child(node, part)
            if found is not None:  # else it is something that the file leaves out, or a name of ours for a kind of value
                line, node = found
        told = ".".join(str(part) for part in place) or "file"
        return told if line is None else f"line {line + 1}, {told}"


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """Find what is under a key, or at a place of a list; in a list of names and {name: options} what a name stands for."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode):
        if isinstance(part, int):
            return (node.value[part].start_mark.line, node.value[part]) if part < len(node.value) else None
        return next((found for one in node.value if (found := _child(one, part)) is not None), None)
    if isinstance(node, yaml.ScalarNode) and node.value == part:
        return node.start_mark.line, node
    return None


def shipped(name: str) -> Path:
    """Path of a file that ships with labloop, such as `rounds/default.yaml` (the folder config/ of the repository)."""
    here = Path(__file__).parent.parent
    folder = here / "presets" if (here / "presets").is_dir() else here.parent / "config"
    return folder / name


def ships(path: Path) -> Path | None:
    """Give the file that ships where one under config/ is named, as the manual does; None where none such does."""
    head, *names = path.parts or ("",)
    ours = shipped("/".join(names)) if head == "config" and ".." not in names else None
    return ours if ours is not None and ours.is_file() else None


def at_hand(path: Path | str) -> Path:
    """Give the file that ships where one under config/ is named and there is none in this folder."""
    path = Path(path)
    return path if path.exists() else ships(path) or path


def read_yaml(path: Path | str) -> Document:
    """Read a file of keys and values.

    Raises:
        ConfigError: it cannot be read, is no YAML, is beyond a bound, or holds something else; with its name, and the line.
    """
    path = at_hand(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may never end
            raise ConfigError(f"{path}: is no file: name a YAML file such as those under config/")
        with path.open("rb") as file:
            content = file.read(SIZE + 1)
        if len(content) > SIZE:
            raise ConfigError(f"{path}: is larger than {SIZE // 2**20} MiB: this is no campaign's or round's file")
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        hint = "; mend its name, or name the folder that it is in" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: cannot be read: {reason}{hint}") from error
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        values = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        said = str(error.problem or error.context)
        if "'\\t'" in said:
            said = "a tab begins the line: indent with blanks, two a level"
        raise ConfigError(f"{path}: {line}is not valid YAML: {said}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if root is None or not isinstance(values, dict):
        raise ConfigError(
            f"{path}: is no YAML file of keys and values: name a campaign's or a round's, such as those under config/"
        )
    return Document(str(path), values, root)


def yaml_value(text: str) -> Any:
    """Read one value, such as an option on the command line, as a file's values are read.

    Raises:
        yaml.YAMLError: it is none, or beyond a bound.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)


class _Loader(yaml.SafeLoader):
    """SafeLoader with bounds.

    It refuses a key written twice, which YAML otherwise lets win silently, and reads 1e-3 as a number.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._extent: dict[int, tuple[int, int]] = {}
        """Of each finished node, by its identity: the values in it, and the levels."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        alias = self.check_event(yaml.AliasEvent)  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > DEPTH or len(self._extent) >= NODES:
            raise ComposerError(None, None, _TOO_MUCH, mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if node is None:
            return None
        if alias and id(node) not in self._extent:
            raise ComposerError(None, None, "an alias stands within what it stands for", mark)
        if not alias:
            parts = []
            if isinstance(node, yaml.CollectionNode):
                pairs = isinstance(node, yaml.MappingNode)
                inner = [one for pair in node.value for one in pair] if pairs else node.value
                parts = [self._extent[id(one)] for one in inner]
            self._extent[id(node)] = 1 + sum(n for n, _ in parts), 1 + max((levels for _, levels in parts), default=0)
        values, levels = self._extent[id(node)]
        if self._depth + levels > DEPTH or values > NODES:
            raise ComposerError(None, None, _TOO_MUCH, mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
        ) as error:  # PyYAML's own, on 2026-13-45 and the like
            kind = {"timestamp": "date", "int": "number", "float": "number"}.get(node.tag.rpartition(":")[2], node.tag)
            told = str(node.value) if len(str(node.value)) <= 40 else f"{str(node.value)[:40]}…"
            problem = f"{told} looks like a {kind} and is none: mend it, or put it in quotes if it is text"
            raise ConstructorError(None, None, problem, node.start_mark) from error


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise ConstructorError(None, None, "a key must be a name or a number", key_node.start_mark)
        if key in seen:
            raise ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)  # type: ignore[no-untyped-call,no-any-return]


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
