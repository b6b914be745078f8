"""The catalog: which data sets and models there are, read from YAML and checked all at once.

What lives here: the typed entries, the merge of the packaged file with the user's, and look-up by name with a
suggestion. What does not: reading data (``datasets``), loading weights (``embedding``, ``saes``), and anything that
needs torch or Dagster.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic import model_validator as check_model

from sae_assets.errors import CatalogError

PACKAGED = Path(__file__).with_name("catalog.yaml")
PACKAGE_PREFIX = "package:"

# Keys become folder names, asset key parts, group names and partition keys: nothing that a path or Dagster reads.
DatasetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z](\.?[A-Za-z0-9_-])*\.?$", max_length=64)]
ConceptName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
TokenKind = Literal["patch", "cls"]


class Entry(BaseModel):
    """Base of all entries: unknown keys are mistakes, values are frozen, paths start at the file they stand in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _resolve(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(PACKAGE_PREFIX):
        return Path(__file__).parent / value.removeprefix(PACKAGE_PREFIX)
    return value


class Transformer(Entry):
    """A foundation model: a hub name with its weights, or a local folder; never both."""

    library: Literal["open_clip"]
    name: str | None = Field(None, description="architecture name, e.g. ViT-L-14")
    pretrained: str | None = Field(None, description="weights tag, e.g. laion2b_s32b_b82k")
    weights: Path | None = Field(None, description="local weights file for `name`; preprocessing is the tag's")
    path: Path | None = Field(None, description="local folder in open_clip's published layout")

    _paths = field_validator("path", "weights", mode="before")(_resolve)

    @check_model(mode="after")
    def _one_source(self) -> "Transformer":
        if (self.path is None) == (self.name is None):
            raise ValueError("give either `path` (a local folder) or `name` with `pretrained`")
        if self.name is not None and self.pretrained is None:
            raise ValueError("`name` needs `pretrained` (a weights tag): random weights are refused")
        if self.path is not None and (self.pretrained or self.weights):
            raise ValueError("`path` is a whole folder; `pretrained` and `weights` go with `name` only")
        return self


class Sae(Entry):
    """An SAE checkpoint: a local path, or a hub repository and file."""

    format: Literal["clipscope"]
    path: Path | None = None
    repo: str | None = None
    file: str | None = None
    revision: str | None = None

    _paths = field_validator("path", mode="before")(_resolve)

    @check_model(mode="after")
    def _one_source(self) -> "Sae":
        if (self.path is None) == (self.repo is None):
            raise ValueError("give either `path` (a local file) or `repo` with `file`")
        if self.repo is not None and self.file is None:
            raise ValueError("`repo` needs `file`")
        return self


class Pruning(Entry):
    """The fixed pruning rules of a model (numerics: unit mapping)."""

    min_active: int = Field(ge=0, description="fewer calibration rows than this: rare")
    max_density: float = Field(gt=0, le=1, description="share of calibration rows above which a unit is dense")
    strength_percentile: float = Field(ge=0, le=100)
    target_units: int = Field(ge=1)


class Model(Entry):
    """A transformer, the block whose output is read, and the SAE for it."""

    modality: Literal["image"]
    transformer: Transformer
    layer: int = Field(ge=0, description="0-based transformer block whose output (residual stream) is read")
    sae: Sae
    k_stored: int | None = Field(None, ge=1, description="entries kept per row; null keeps all")
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    pruning: Pruning


class Dataset(Entry):
    """A folder of examples with labels, splits and, for images, masks."""

    description: str = ""
    root: Path
    layout: Literal["clevr"]
    modality: Literal["image"]
    concepts: tuple[ConceptName, ...] = Field(min_length=1)
    token_kinds: tuple[TokenKind, ...] = ("patch", "cls")
    models: tuple[ModelName, ...] = Field(min_length=1)
    chunk_size: int = Field(200, ge=1, description="examples per chunk")
    masks: Literal["files", "colour-difference", "auto"] = Field(
        "auto", description="masks/<name>.png, pixels whose channels differ by more than 20, or files where they exist"
    )
    min_overlap: int = Field(1, ge=1, description="pixels of a patch inside the mask that make it positive")
    owners: tuple[str, ...] = ()

    _paths = field_validator("root", mode="before")(_resolve)

    @field_validator("concepts", "token_kinds", "models")
    @classmethod
    def _unique(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"named twice: {', '.join(repeated)}")
        return values


class Catalog(Entry):
    """All data sets and models by name."""

    models: dict[ModelName, Model]
    datasets: dict[DatasetName, Dataset]

    def dataset(self, name: str) -> Dataset:
        return self.datasets[match_name(name, self.datasets, "data set")]

    def model(self, name: str) -> Model:
        return self.models[match_name(name, self.models, "model")]


def match_name(name: str, known: Iterable[str], what: str) -> str:
    """The known name that equals ``name`` but for case.

    Raises:
        CatalogError: no such name; the message lists the known ones and suggests the nearest.
    """
    names = sorted(known)
    for candidate in names:
        if candidate.lower() == name.lower():
            return candidate
    spelt = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), spelt, n=1, cutoff=0.5)
    hint = f" Did you mean {spelt[near[0]]!r}?" if near else ""
    raise CatalogError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (IsADirectoryError, PermissionError) as error:
        raise CatalogError(f"The catalog {path} cannot be read: {error.strerror}.") from None
    except FileNotFoundError:
        raise CatalogError(f"The catalog {path} does not exist. Set SAE_ASSETS_CATALOG to an existing file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"The catalog {path} is not valid YAML.", [str(error).replace("\n", " ")]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise CatalogError(f"The catalog {path} must be a mapping with `models` and `datasets`.")
    return content


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


def _absolute_paths(content: Any, base: Path) -> Any:
    """Relative `path` and `root` values start at their own file, which is only known before the merge."""
    if isinstance(content, dict):
        return {
            key: str(base / Path(value).expanduser())
            if key in ("path", "root", "weights") and isinstance(value, str) and not value.startswith(PACKAGE_PREFIX)
            else _absolute_paths(value, base)
            for key, value in content.items()
        }
    return content


def load_catalog(path: Path | None = None) -> Catalog:
    """The packaged catalog with the user's file merged over it.

    Raises:
        CatalogError: naming the file and, for every mistake at once, its key path, what was found and what is allowed.
    """
    content = _read_yaml(PACKAGED)
    if path is not None:
        content = _merge(content, _absolute_paths(_read_yaml(path), path.parent.absolute()))
    problems: list[str] = []
    try:
        catalog = Catalog.model_validate(content)
    except ValidationError as error:
        problems += [_describe(detail) for detail in error.errors(include_url=False)]
        catalog = None
    problems += _cross_check(content)
    if problems or catalog is None:
        raise CatalogError(f"The catalog {path or PACKAGED} has {len(problems)} mistake(s):", problems)
    return catalog


def _cross_check(content: dict[str, Any]) -> list[str]:
    """Mistakes between entries, found also when single entries are wrong."""
    problems: list[str] = []
    models, datasets = (part if isinstance(part := content.get(key), dict) else {} for key in ("models", "datasets"))
    for name, entry in datasets.items():
        used = entry.get("models") if isinstance(entry, dict) else None
        for position, model in enumerate(used if isinstance(used, list) else []):
            if model not in models:
                known = ", ".join(sorted(map(str, models)))
                problems.append(f"datasets.{name}.models.{position}: found {model!r}; known models: {known}")
    lowered: dict[str, str] = {}
    for kind, entries in (("models", models), ("datasets", datasets)):
        for name in entries:
            twin = lowered.setdefault(f"{kind}.{str(name).lower()}", str(name))
            if twin != name:
                problems.append(f"{kind}.{name}: differs from {twin!r} in case only; give it another name")
    return problems


def _fields(loc: tuple[Any, ...]) -> list[str]:
    """The keys that an entry knows, by the key path of one that it does not."""
    kind: Any = {"models": Model, "datasets": Dataset}[loc[0]] if len(loc) > 2 else Catalog
    for part in loc[2:-1]:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields)


def _describe(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    found = detail.get("input")
    shown = "" if isinstance(found, dict) or detail["type"] == "missing" else f"found {found!r}; "
    message = re.sub(r"^Value error, ", "", detail["msg"])
    if detail["type"] == "extra_forbidden":
        known = _fields(detail["loc"])
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}")
    return f"{where}: {shown}{message[0].lower()}{message[1:]}"
