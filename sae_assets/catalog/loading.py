"""Reading the catalog: the packaged file with the user's merged over it, and all mistakes reported at once.

Entries are typed in ``models`` and ``datasets``; here is what no single entry can know: presets, merging,
references between entries, and look-up by name with a suggestion.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sae_assets.catalog.datasets import TOKEN_KINDS, Catalog
from sae_assets.catalog.models import PACKAGE_PREFIX
from sae_assets.catalog.names import hint_of
from sae_assets.catalog.registry import Layout, layouts
from sae_assets.catalog.yaml_text import read_packaged, read_yaml
from sae_assets.errors import CatalogError

PACKAGED = Path(__file__).with_name("catalog.yaml")
MOST_SHOWN = 200  # characters of a value that a message shows
PRESETS = Path(__file__).with_name("presets.yaml")


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        whole = key in ("transformer", "sae") and isinstance(value, dict) and _names_a_source(value)
        if isinstance(value, dict) and isinstance(merged.get(key), dict) and not whole:
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _names_a_source(value: dict[str, Any]) -> bool:
    # `path` and `repo`/`name` exclude each other: a user's transformer or SAE replaces the packaged one whole.
    return bool({"path", "repo", "name"} & set(value))


PATH_KEYS = ("path", "root", "weights", "annotations")


def _absolute_paths(content: Any, base: Path) -> Any:
    """Relative `path` and `root` values start at their own file, which is only known before the merge."""
    if isinstance(content, dict):
        return {
            key: str(base / Path(value).expanduser())
            if key in PATH_KEYS and isinstance(value, str) and not value.startswith(PACKAGE_PREFIX)
            else _absolute_paths(value, base)
            for key, value in content.items()
        }
    return content


def load_catalog(path: Path | None = None) -> Catalog:
    """Return the packaged catalog with the user's file merged over it; entries that are null there are taken out.

    Raises:
        CatalogError: naming the file and, for every mistake at once, its key path, what was found and what is allowed.
    """
    content = read_packaged(PACKAGED)
    if path is not None:
        content = _merge(content, _absolute_paths(read_yaml(path), path.parent.absolute()))
        for section in ("datasets", "models"):
            if isinstance(entries := content.get(section), dict):
                content[section] = {name: entry for name, entry in entries.items() if entry is not None}
    problems = _apply_presets(content)
    try:
        catalog = Catalog.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_describe(detail) for detail in details if not _follows(detail, details)]
        catalog = None
    problems += _cross_check(content)
    if problems or catalog is None:
        raise CatalogError(f"The catalog {path or PACKAGED} has {len(problems)} mistake(s):", problems)
    return catalog


def _apply_presets(content: dict[str, Any]) -> list[str]:
    """Put each data set's own keys over those of the ``preset`` it names; problems with the names are returned."""
    problems: list[str] = []
    datasets: dict[str, Any] = section if isinstance(section := content.get("datasets"), dict) else {}
    for name, entry in list(datasets.items()):
        if not isinstance(entry, dict) or "preset" not in entry:
            continue
        presets = read_packaged(PRESETS)
        chosen = str(entry["preset"])
        own = {key: value for key, value in entry.items() if key != "preset"}
        if chosen in presets:
            preset = presets[chosen]
            if {"concepts", "split"} & own.keys():  # published figures hold for the published concepts and splits
                preset.pop("published", None)
            datasets[name] = _merge(preset, own)
        else:
            hint = hint_of(chosen, list(presets))
            problems.append(f"datasets.{name}.preset: found {chosen!r}; known: {', '.join(presets)}.{hint}")
            del datasets[name]  # what it lacks would only be noise beside this
    return problems


def _cross_check(content: dict[str, Any]) -> list[str]:
    """Return mistakes between entries and between keys of one entry, which are found even when single keys are
    wrong."""
    problems: list[str] = []
    models, datasets = (part if isinstance(part := content.get(key), dict) else {} for key in ("models", "datasets"))
    for name, entry in datasets.items():
        if isinstance(entry, dict):
            problems += [f"datasets.{name}.{problem}" for problem in _dataset_problems(entry, models)]
    lowered: dict[str, str] = {}
    for kind, entries in (("models", models), ("datasets", datasets)):
        for name in entries:
            if not isinstance(name, str):
                continue  # named as no name
            twin = lowered.setdefault(f"{kind}.{name.lower()}", name)
            if twin != name:
                problems.append(f"{kind}.{name}: differs from {twin!r} in case only; give it another name")
    return problems


def _dataset_problems(entry: dict[str, Any], models: dict[str, Any]) -> Iterable[str]:
    modality, layout, kinds = entry.get("modality"), entry.get("layout"), entry.get("token_kinds")
    used: list[Any] = section if isinstance(section := entry.get("models"), list) else []
    precomputed: dict[str, Any] = section if isinstance(section := entry.get("embeddings"), dict) else {}
    for position, name in enumerate(used):
        model = models.get(name) if isinstance(name, str) else None
        if name not in models:
            names = sorted(map(str, models))
            yield f"models.{position}: found {name!r}; known models: {', '.join(names)}.{hint_of(str(name), names)}"
        elif isinstance(model, dict):
            if model.get("modality") in TOKEN_KINDS and modality in TOKEN_KINDS and model["modality"] != modality:
                yield f"models.{position}: {name!r} reads {model['modality']}s, the data set's modality is {modality}"
            embeddings = precomputed.get(name)
            missing = [kind for kind in kinds or TOKEN_KINDS.get(str(modality), ()) if kind not in (embeddings or {})]
            if model.get("transformer") is None and missing:
                yield (
                    f"embeddings: model {name!r} has no transformer, so precomputed embeddings are needed for "
                    f"{', '.join(map(str, missing))}"
                )
    for name in precomputed:
        if name not in used:
            hint = hint_of(str(name), list(map(str, used)))
            yield f"embeddings.{name}: no such model in `models` ({', '.join(map(str, used)) or 'none'}).{hint}"
    if modality in TOKEN_KINDS and isinstance(kinds, list):
        for kind in kinds:
            if kind not in TOKEN_KINDS[modality]:
                yield f"token_kinds: found {kind!r}; a data set of {modality}s has {', '.join(TOKEN_KINDS[modality])}"
    if isinstance(layout, str) and layout in layouts():
        yield from _layout_problems(entry, layouts()[layout])


def _layout_problems(entry: dict[str, Any], layout: Layout) -> Iterable[str]:
    """Return what a data set asks for that its layout lacks and would silently ignore."""
    modality = entry.get("modality")
    if entry.get("masks") == "colour-difference" and "colour-difference" not in layout.takes:
        takers = " or ".join(repr(name) for name, kind in layouts().items() if "colour-difference" in kind.takes)
        yield f"masks: found 'colour-difference', which is for layout {takers}: one object on grey"
    labels, concepts = entry.get("labels"), entry.get("concepts")
    if isinstance(labels, dict) and isinstance(concepts, (list, tuple)):
        for concept in [concept for concept in concepts if concept not in labels]:
            yield f"labels: concept {concept!r} has none; every concept needs a number or colour"
        for concept in [concept for concept in labels if concept not in concepts]:
            yield f"labels.{concept}: no such concept in `concepts`.{hint_of(str(concept), list(map(str, concepts)))}"
    for key in ("annotations", "columns", "labels", "separator", "backslashes"):
        taken = "separator" if key == "backslashes" else key  # both are of CSV tables
        if entry.get(key) and taken not in layout.takes:
            takers = ", ".join(name for name, kind in layouts().items() if taken in kind.takes)
            yield f"{key}: layout {layout.name!r} has none; it is for {takers}"
    for key in ("white", "labels"):
        if entry.get(key) is not None and modality == "text":
            yield f"{key}: is for images, but the modality is text"
    if modality in TOKEN_KINDS and modality not in layout.modalities:
        of = " or ".join(layout.modalities)
        yield f"layout: {layout.name!r} is a layout of {of}s, but the modality is {modality}"


def _fields(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that an entry knows, from the key path of one that it does not."""
    kind: Any = Catalog
    for part in loc[:-1]:
        kind = _inner(get_args(kind)[1] if get_origin(kind) is dict else kind.model_fields[part].annotation)
    return list(kind.model_fields)


def _inner(kind: Any) -> Any:
    """Return the entry or mapping inside ``Entry | None``."""
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return kind
    return next(part for part in get_args(kind) if part is not type(None))


def plain_message(detail: Any) -> str:
    """Return what pydantic says of one mistake, without its own "Value error, " before what a validator of ours
    said."""
    return re.sub(r"^(Value|Assertion) error, ", "", detail["msg"])


KINDS = r"\[key\]$|(dict|tuple|list|set|union|literal|nullable|lax-or-strict|function-\w+|constrained-\w+)\["


def _follows(detail: Any, details: Sequence[Any]) -> bool:
    """Return whether a mistake is there because of another: a list is too short once its wrong values are taken out."""
    if detail["type"] == "too_short":
        keys = detail["loc"]
        return any(len(one["loc"]) > len(keys) and one["loc"][: len(keys)] == keys for one in details)
    return bool(detail["type"] == "default_factory_not_called")


def _describe(detail: Any) -> str:
    # What pydantic calls the kinds it tried is no key: `dict[function-after[…]]`, `literal['any']`.
    where = ".".join(str(part) for part in detail["loc"] if not re.match(KINDS, str(part)))
    value = detail.get("input")
    shown = repr(value) if len(repr(value)) <= MOST_SHOWN else f"{repr(value)[:MOST_SHOWN]}…"
    prefix = "" if isinstance(value, dict) or detail["type"] == "missing" else f"found {shown}; "
    message = plain_message(detail)
    if detail["type"] == "extra_forbidden":
        keys = _fields(detail["loc"])
        near = difflib.get_close_matches(str(detail["loc"][-1]), keys, n=1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(keys)}")
    return f"{where}: {prefix}{message[0].lower()}{message[1:]}"
