"""Reviewed YAML files, parsed strictly; each issue names its file, line and place.

Codes stay text: `01`, `yes`, `no`, `on` and dates are strings until a model converts them. Only `true`, `false`, null and decimal
integers without leading zeros have their YAML type. A duplicate key is an issue, while plain YAML silently takes the last.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

T = TypeVar("T")
Loc = tuple[int | str, ...]

Code = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A code as its sender writes it: `1` in the file becomes the string '1'."""


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """One thing that is wrong in a reviewed file, with its place."""

    file: Path
    line: int
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.place}: {self.what}"


class ConfigError(Exception):
    """Reviewed files cannot be used. The text has one line for each of `issues`."""

    def __init__(self, issues: Sequence[ConfigIssue]) -> None:
        super().__init__("\n".join(map(str, issues)))
        self.issues = tuple(issues)


@dataclass(frozen=True)
class ConfigFile(Generic[T]):
    """The parsed value of a file, and the YAML nodes to find line numbers in."""

    value: T
    file: Path
    _root: yaml.Node

    def issue(self, loc: Iterable[int | str], what: str) -> ConfigIssue:
        """Create an issue at this place of the file."""
        return _issue_at(self.file, self._root, tuple(loc), what)


def load(file: Path, model: type[T], context: Any = None) -> ConfigFile[T]:
    """Load a file as `model`, which is any type that pydantic accepts. Raise ConfigError with all its issues.

    `context` is passed to the validators of the model.
    """
    root = _compose(file)
    if twice := [_issue_at(file, root, loc, "is a duplicate key") for loc in _repeated(root)]:
        raise ConfigError(twice)
    try:
        value: T = TypeAdapter(model).validate_python(_plain(file, root), context=context)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        raise ConfigError([_issue_at(file, root, tuple(one["loc"]), one["msg"]) for one in errors]) from None
    return ConfigFile(value, file, root)


def load_all(folder: Path, model: type[T], context: Any = None) -> list[ConfigFile[T]]:
    """Load all YAML files of a folder, in order of their names. Raise ConfigError with the issues of all."""
    return gather(partial(load, file, model, context) for file in sorted(folder.glob("*.yaml")))


def gather(readings: Iterable[Callable[[], T]]) -> list[T]:
    """Call each of `readings` and return the results. Raise ConfigError with the issues of all."""
    values: list[T] = []
    issues: list[ConfigIssue] = []
    for read in readings:
        try:
            values.append(read())
        except ConfigError as error:
            issues += error.issues
    if issues:
        raise ConfigError(issues)
    return values


def duplicates(values: Sequence[Hashable]) -> Iterator[int]:
    """Yield the index of each value that an earlier entry has too. None does not count."""
    return (place for place, value in enumerate(values) if value is not None and value in values[:place])


class _Loader(yaml.CSafeLoader):
    """A SafeLoader that resolves only the scalar types named in the module's docstring."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def _resolve(tag: str, pattern: str, *first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


_resolve("bool", r"^(true|false)$", "t", "f")
_resolve("int", r"^-?(0|[1-9][0-9]*)$", *"-0123456789")
_resolve("null", r"^(~|null|)$", "~", "n", "")
_resolve("merge", r"^<<$", "<")


def _compose(file: Path) -> yaml.Node:
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError([ConfigIssue(file, 1, "file", f"cannot be read: {reason}")]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"is not valid YAML: {getattr(error, 'problem', None) or 'cannot be parsed'}"
        raise ConfigError([ConfigIssue(file, mark.line + 1 if mark else 1, "file", what)]) from None
    if root is None:
        raise ConfigError([ConfigIssue(file, 1, "file", "is empty")])
    return root


def _plain(file: Path, root: yaml.Node) -> Any:
    try:
        return _Loader("").construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or "cannot be read")
        raise ConfigError([ConfigIssue(file, mark.line + 1 if mark else 1, "file", what)]) from None


def _repeated(node: yaml.Node, at: Loc = ()) -> Iterable[Loc]:
    if isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            yield from _repeated(inner, (*at, index))
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, inner in node.value:
            if key.value in names and key.tag != "tag:yaml.org,2002:merge":
                yield (*at, str(key.value))
            names.add(str(key.value))
            yield from _repeated(inner, (*at, str(key.value)))


def _issue_at(file: Path, root: yaml.Node, loc: Loc, what: str) -> ConfigIssue:
    """Create an issue at the line of the innermost part of `loc` that the file has; skip parts that pydantic adds."""
    node, line, place = root, root.start_mark.line, []
    for part in loc:
        child = _below(node, part)
        if child is None:
            if isinstance(part, str) and part != "[key]" and "[" not in part:
                place.append(part)
            continue
        line, node = child
        place.append(_named(node, part))
    return ConfigIssue(file, line + 1, ".".join(place) or "file", what.removeprefix("Value error, "))


def _below(node: yaml.Node, part: int | str) -> tuple[int, yaml.Node] | None:
    """Return the line and node of the last entry with this key, so that an issue points at the duplicate."""
    if isinstance(node, yaml.MappingNode):
        named = [(key.start_mark.line, inner) for key, inner in node.value if key.value == str(part)]
        return named[-1] if named else None
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        inner = node.value[part]
        return inner.start_mark.line, inner
    return None


def _named(node: yaml.Node, part: int | str) -> str:
    """Name an entry of a list by its id if it has one."""
    if isinstance(part, int) and isinstance(node, yaml.MappingNode):
        names = {key.value: inner.value for key, inner in node.value if isinstance(inner, yaml.ScalarNode)}
        labels = (names.get(name) for name in ("id", "service", "hub", "code", "name"))
        return str(next(filter(None, labels), f"entry {part + 1}"))
    return str(part)


def field_at(model: type[BaseModel], path: str) -> FieldInfo | None:
    """Return the field of `model` at this dotted path, such as person.birth_date or contacts.0.name, or None."""
    here: Any = model
    field: FieldInfo | None = None
    for part in path.split("."):
        if part.isdigit():
            continue
        if not (isinstance(here, type) and issubclass(here, BaseModel)) or part not in here.model_fields:
            return None
        field = here.model_fields[part]
        here = _model_in(field.annotation)
    return field


def _model_in(annotation: Any) -> Any:
    """Return the model inside `Address | None` or `tuple[Contact, ...]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((nested for one in inner if (nested := _model_in(one)) is not None), None)
