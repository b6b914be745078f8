"""The catalog's entries of models: transformers, SAEs, pruning. Frozen, typed, unknown keys refused.

Rules about one entry stand here and in ``datasets``; rules between entries (a data set naming a model) stand in
``loading``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic import model_validator as check_model

from sae_assets.catalog.registry import formats, libraries, one_of

PACKAGE_PREFIX = "package:"

# Keys become folder names, asset key parts, group names and partition keys: nothing that a path or Dagster reads.
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z](\.?[A-Za-z0-9_-])*\.?$", max_length=64)]
Modality = Literal["image", "text"]
ClsOfTexts = Literal["pooled", "last", "mean_embedding"]


def _takes_bool(kind: Any) -> bool:
    return kind in (bool, Any) or isinstance(kind, bool) or any(map(_takes_bool, get_args(kind)))


class Entry(BaseModel):
    """Base of all entries: unknown keys are mistakes, values are frozen, paths start at the file they stand in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's ``yes`` and ``on`` are true, which as a number would be 1."""
        if isinstance(value, bool) and not _takes_bool(cls.model_fields[info.field_name or ""].annotation):
            raise ValueError(f"expected no {str(value).lower()} (which YAML makes of yes, no, on and off too)")
        return value


class NamedEntry(Entry):
    """An entry that the catalog lists by name, and that knows this name. A file gives it as the entry's key only."""

    _name: str | None = PrivateAttr(None)

    @property
    def name(self) -> str:
        """Return the entry's key in the catalog.

        Raises:
            ValueError: an entry that was made outside of a catalog and was not :meth:`named`.
        """
        # Not `self._name`, which takes pydantic 4 µs: definitions of ten data sets ask for 5,000 names.
        name: str | None = (self.__pydantic_private__ or {}).get("_name")
        if name is None:
            raise ValueError(f"This {type(self).__name__} entry stands in no catalog: give it a name by `named`.")
        return name

    def named(self, name: str) -> Self:
        """Return the same entry under a name. Loading a catalog does this; only entries made elsewhere need it."""
        entry = self.model_copy()
        entry._name = name
        return entry


def resolve_package(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(PACKAGE_PREFIX):
        return Path(__file__).parent.parent / value.removeprefix(PACKAGE_PREFIX)
    return value


class Transformer(Entry):
    """A foundation model: a hub name with its weights, or a local folder; never both."""

    library: Annotated[str, AfterValidator(one_of(libraries))] = Field(description="what loads it")
    name: str | None = Field(None, description="open_clip: architecture, such as ViT-L-14; transformers: hub id")
    pretrained: str | None = Field(None, description="open_clip: weights tag, such as laion2b_s32b_b82k")
    revision: str | None = Field(
        None, description="transformers: branch, tag or commit of the hub repository; default: its main branch"
    )
    weights: Path | None = Field(None, description="open_clip: weights file for `name`; preprocessing is the tag's")
    path: Path | None = Field(None, description="local folder in the library's published layout, instead of `name`")

    _paths = field_validator("path", "weights", mode="before")(resolve_package)

    @check_model(mode="after")
    def _one_source(self) -> "Transformer":
        if (self.path is None) == (self.name is None):
            raise ValueError("give either `path` (a local folder) or `name` (with `pretrained` for open_clip)")
        libraries()[self.library].check_transformer(self)
        return self

    @property
    def label(self) -> str:
        """Return how messages name it."""
        return self.name or str(self.path)


class Sae(Entry):
    """An SAE checkpoint: a local path, or a hub repository and a file (or folder) in it."""

    format: Annotated[str, AfterValidator(one_of(formats))] = Field(description="how the checkpoint is written")
    path: Path | None = Field(
        None, description="local file or folder; of a format that is a folder also one of its two files"
    )
    repo: str | None = Field(
        None, description="hub repository, instead of `path`; fetched on first use, then read from the hub's cache"
    )
    file: str | None = Field(None, description="file or folder in `repo`; may hold `{average_l0}`")
    revision: str | None = Field(None, description="branch, tag or commit of `repo`; default: its main branch")
    average_l0: Annotated[int, Field(ge=1)] | Literal["canonical"] | None = Field(
        None,
        description="Gemma Scope: which of `average_l0_<number>`; default: `canonical`, the one nearest to 100",
    )

    _paths = field_validator("path", mode="before")(resolve_package)

    @check_model(mode="after")
    def _one_source(self) -> "Sae":
        if (self.path is None) == (self.repo is None):
            raise ValueError("give either `path` (a local file or folder) or `repo` with `file`")
        if self.repo is not None and self.file is None:
            raise ValueError("`repo` needs `file`")
        if self.average_l0 is not None and not formats()[self.format].by_l0:
            takers = " or ".join(name for name, kind in formats().items() if kind.by_l0)
            raise ValueError(f"`average_l0` is for format {takers}")
        return self


FIXED_RULES = ("min_active", "max_density", "strength_percentile")


class Pruning(Entry):
    """``pruning`` says how a model's units are pruned (numerics: unit mapping). The mode ``fixed`` needs all three
    rules."""

    mode: Literal["adaptive", "fixed"] = Field(
        "adaptive", description="`adaptive`: limits from the data set's labels; `fixed`: the next three keys"
    )
    min_active: int | None = Field(
        None,
        ge=0,
        description="rare: a unit that fires on fewer cal rows than this; default: required where `fixed`, else from "
        "the labels",
    )
    max_density: float | None = Field(
        None,
        gt=0,
        le=1,
        description="dense: a unit that fires on a larger share of cal rows, from above 0 to 1; default: required "
        "where `fixed`, else from the labels",
    )
    strength_percentile: float | None = Field(
        None,
        ge=0,
        le=100,
        description="weak: a unit whose p99 is below this percentile of those left, 0 to 100; default: required "
        "where `fixed`, else by the number of concepts",
    )
    target_units: int | None = Field(
        None,
        ge=1,
        description="over target: a unit that is not among the most selective of this number; default: null: no limit",
    )

    @check_model(mode="after")
    def _rules_of_fixed_mode(self) -> "Pruning":
        missing = [name for name in FIXED_RULES if getattr(self, name) is None]
        if self.mode == "fixed" and missing:
            raise ValueError(f"mode fixed needs {', '.join(missing)}")
        return self


class Bounds(Entry):
    """A check warns where a chunk's activations leave these bounds. Nothing stored depends on them."""

    l0: tuple[float, float] | None = Field(
        None,
        description="`[least, most]` active units per row, averaged; default: above 0, at most a quarter of the units",
    )
    min_coverage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="least share of units, 0 to 1, that fire on any row; default: more than one row's",
    )
    max_fvu: float = Field(
        0.35,
        gt=0,
        description="most of the rows' variance that the SAE's reconstruction may leave unexplained",
    )

    @field_validator("l0")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError(f"expected [least, most] with 0 <= least <= most, found {list(value)}")
        return value


class Model(NamedEntry):
    """A transformer, the hook point in it whose output is read, and the SAE for that hook point."""

    modality: Modality = Field(description="what it reads")
    transformer: Transformer | None = Field(
        None, description="the foundation model; default: none: all embeddings are precomputed"
    )
    layer: int | None = Field(
        None, ge=0, description="0-based block whose output is read; exactly one of this and the next two"
    )
    hidden_state: int | None = Field(
        None, ge=0, description="index into `hidden_states` that is read; 0 is the first block's input"
    )
    module: str | None = Field(None, description="name of the module whose output is read")
    sae: Sae = Field(description="the SAE of this hook point")
    k_stored: int | None = Field(None, ge=1, description="entries kept per row; default: null: all")
    stored_values: Literal["float32", "float16"] = Field(
        "float32",
        description="what values are rounded to before they are stored: `float16`, its 11 significant bits, takes two "
        "thirds of the room (numerics: values of 16 bits)",
    )
    max_dropped_mass: float = Field(
        0.05, ge=0, le=1, description="share of activation mass that `k_stored` may drop before a check warns"
    )
    bounds: Bounds = Field(
        default_factory=lambda: Bounds(),
        description="how a chunk has to look, else a check warns",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="what the transformer computes in"
    )
    forward_batch: int | None = Field(
        None,
        ge=1,
        description="examples in one forward pass; the last bits of embeddings depend on it; default: null: as many as "
        "the device takes",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="texts: tokens kept per text, special ones not counted; default: as many as the model takes",
    )
    prepend_bos: bool | None = Field(
        None,
        description="texts: true adds a BOS token where the tokenizer does not; default: null: as the tokenizer does",
    )
    cls: ClsOfTexts | None = Field(
        None,
        description="texts: what a `cls` row is: `pooled`, each unit's largest value over the text's tokens; `last`, "
        "the last token; `mean_embedding`, the mean of the tokens' embeddings; default: `pooled`",
    )
    pruning: Pruning = Field(default_factory=lambda: Pruning(), description="which units are dropped")

    @check_model(mode="after")
    def _one_hook_point(self) -> "Model":
        keys = [name for name in ("layer", "hidden_state", "module") if getattr(self, name) is not None]
        if self.transformer is not None and len(keys) != 1:
            raise ValueError(
                f"give exactly one of `layer`, `hidden_state` and `module`; found {' and '.join(keys) or 'none'}"
            )
        if self.transformer is not None:
            library = libraries()[self.transformer.library]
            if self.modality not in library.modalities:
                others = " or ".join(name for name, kind in libraries().items() if self.modality in kind.modalities)
                raise ValueError(
                    f"library {library.name} reads {' and '.join(library.modalities)}s; a model of {self.modality}s is "
                    f"loaded by library {others}"
                )
            library.check_model(self)
        if self.modality == "image" and not (self.max_tokens is self.prepend_bos is self.cls is None):
            raise ValueError("`max_tokens`, `prepend_bos` and `cls` are for text models")
        return self

    @property
    def cls_of_texts(self) -> ClsOfTexts:
        """Return what a ``cls`` row of a text is."""
        return self.cls or "pooled"

    @property
    def hidden_state_read(self) -> int | None:
        """Return index into ``hidden_states`` that is read, 0 being the first block's input; None of a named module."""
        return self.layer + 1 if self.layer is not None else self.hidden_state

    @property
    def hook_point(self) -> str:
        """Return the hook point as messages name it; without a transformer, what stands in its stead."""
        where = f"`{self.module}`" if self.module else f"hidden state {self.hidden_state}"
        where = f"block {self.layer}" if self.layer is not None else where
        return f"{where} of {self.transformer.label}" if self.transformer else "the precomputed embeddings"
