"""YAML of a catalog, read with care: what would be taken otherwise than it looks, or grows without end, is refused."""

from pathlib import Path
from typing import Any

import yaml

from sae_assets.errors import CatalogError

MOST_DIGITS = 100  # characters of an integer
INTEGER = "tag:yaml.org,2002:int"
MOST_NODES = 10**6  # keys and values of a catalog, aliases written out


def read_packaged(path: Path) -> dict[str, Any]:
    """Return a file of the package, by LibYAML where PyYAML has it: 8 times faster, but nesting can crash it."""
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a catalog's file, empty if the file is.

    Raises:
        CatalogError: no such file, one that cannot be read, no YAML, no mapping, or a bomb.
    """
    try:
        content = _loaded(path.read_text(encoding="utf-8"))
    except (IsADirectoryError, PermissionError) as error:
        raise CatalogError(f"The catalog {path} cannot be read: {error.strerror}.") from None
    except FileNotFoundError:
        raise CatalogError(
            f"The catalog {path} does not exist. Name an existing file by `--catalog` or SAE_ASSETS_CATALOG."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError(f"The catalog {path} is not valid YAML.", [_yaml_problem(error)]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise CatalogError(f"The catalog {path} must be a mapping with `models` and `datasets`.")
    return content


def _loaded(text: str) -> Any:
    """Return the content of a YAML text.

    Raises:
        yaml.YAMLError: not YAML, a key that a mapping has twice (YAML would take the last), or a NUL in a text.
        ValueError: nested too deeply, or so full of aliases (`*name`) that a short text stands for more than a catalog
            can hold, or one that contains itself.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_NODES:
            raise ValueError(f"with its aliases it stands for more than {MOST_NODES:,} values")
        _expect_sound(node, set())
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many values a node stands for, with every alias counted as often as it is used."""
    if id(node) not in sizes:
        sizes[id(node)] = MOST_NODES + 1  # of one that contains itself
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


def _expect_sound(node: yaml.Node, seen: set[int]) -> None:
    """Raises: yaml.MarkedYAMLError, of a key that is there twice, a text with a NUL in it or a number without end."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        node.value = _whole(node)
    if isinstance(node, yaml.ScalarNode) and "\0" in node.value:
        raise yaml.MarkedYAMLError(problem="found a NUL in a text", problem_mark=node.start_mark)
    if isinstance(node, yaml.ScalarNode) and node.tag == INTEGER and len(node.value) > MOST_DIGITS:
        raise yaml.MarkedYAMLError(
            problem=f"found a number of {len(node.value):,} characters", problem_mark=node.start_mark
        )
    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _expect_sound(part, seen)
    keys: set[tuple[str, str]] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in keys:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is there twice", problem_mark=key.start_mark)
            keys.add((key.tag, key.value))
        _expect_sound(key, seen)
        _expect_sound(value, seen)


def _whole(node: yaml.ScalarNode) -> str:
    """Return its text, with characters put together that JSON writes in two halves (`"\\ud83d\\ude00"`) and YAML leaves
    apart.

    Raises: yaml.MarkedYAMLError, of a half alone.
    """
    try:
        text: str = node.value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise yaml.MarkedYAMLError(problem="found half a character", problem_mark=node.start_mark) from None
    return text


def _yaml_problem(error: Exception) -> str:
    """Return line and column, counted from 1, and what was found there."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).replace("\n", " ")
    context = f" {detail}" if (detail := getattr(error, "context", None)) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', error)}{context}"
