"""The catalog's entries of data sets, and the catalog itself. Frozen, typed, unknown keys refused."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator
from pydantic import model_validator as check_model

from sae_assets.catalog.models import Entry, Modality, Model, ModelName, NamedEntry, resolve_package
from sae_assets.catalog.registry import layouts, one_of

# Keys become folder names, asset key parts, group names and partition keys: nothing that a path or Dagster reads.
DatasetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
ConceptName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
TokenKind = Literal["patch", "token", "cls"]
LayoutName = Annotated[str, AfterValidator(one_of(layouts))]


def _cron(value: str) -> str:
    if len(value.split()) != 5 or not all(re.fullmatch(r"[\w*/,#-]+", field) for field in value.split()):
        raise ValueError("a cron expression has five fields: minute, hour, day, month, weekday")
    return value


CronExpression = Annotated[str, AfterValidator(_cron)]

TOKEN_KINDS: dict[str, tuple[TokenKind, ...]] = {"image": ("patch", "cls"), "text": ("token", "cls")}


class Columns(Entry):
    """Which columns of a table hold what (layouts ``table``, ``spans`` and ``huggingface``)."""

    id: str | None = Field(None, description="example id; default: the file's stem, or the row number")
    image: str = "image"
    text: str = "text"
    split: str = "split"
    labels: str | None = Field(
        None, description="one column with a list of concepts; default: a 0/1 column per concept"
    )
    spans: str = "spans"
    mask: str | None = Field(None, description="column with a mask file per example, one for all its concepts")


class SeededSplit(Entry):
    """Shares of a split that is drawn by example id, once, when an example's chunk is registered."""

    train: float = Field(0.5, ge=0, le=1)
    cal: float = Field(0.25, gt=0, le=1)
    test: float = Field(0.25, gt=0, le=1)
    seed: int = 0

    @check_model(mode="after")
    def _whole(self) -> "SeededSplit":
        total = self.train + self.cal + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, cal and test must sum to 1, found {total:g}")
        return self


class Published(Entry):
    """Counts that a published data set has, to be compared with the files given."""

    train: int
    cal: int
    test: int
    always_positive_f1: float | None = Field(None, description="weighted, on test")


class EmbeddingFiles(Entry):
    """Embeddings made elsewhere, one row per token, examples in the order of the data set."""

    path: Path = Field(description="a .pt, .safetensors or .parquet file; of chunked .pt files the …_chunks_info.json")
    tensor: str = Field("embeddings", description="name of the tensor (safetensors) or column (Parquet)")
    rows_per_example: int | None = Field(None, ge=1, description="default: 1 for cls, else rows / examples")

    _paths = field_validator("path", mode="before")(resolve_package)


class Arrivals(Entry):
    """How a growing data set becomes chunks: full ones at once, the rest when it has waited long enough."""

    settle_seconds: float = Field(10, ge=0, description="files that changed later than this long ago are still written")
    close_after_seconds: float | None = Field(
        3600, ge=0, description="a tail that is not full closes this long after its last arrival; null: only by hand"
    )
    check_every_seconds: int = Field(60, ge=5, description="between two looks of the sensor")
    chunks_per_tick: int = Field(50, ge=1, description="most chunks that one look registers")


class Backfills(Entry):
    """When the schedules of a data set launch backfills (they ship switched off), and how much at once."""

    cron: CronExpression = Field("0 2 * * *", description="backfill of missing and stale partitions")
    repair_cron: CronExpression = Field("30 5 * * *", description="backfill of failed and missed partitions")
    verify_cron: CronExpression = Field("0 4 * * 0", description="hash all registered examples again")
    partitions_per_tick: int = Field(200, ge=1, description="most chunk partitions in one backfill")


TAIL_FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def ascending(values: Sequence[float]) -> Sequence[float]:
    """Check tail fractions.

    Raises:
        ValueError: there are none, or they do not ascend within (0, 1).
    """
    if not values or not all(0 < value < 1 for value in values) or list(values) != sorted(set(values)):
        raise ValueError("expected numbers that ascend within (0, 1)")
    return values


def folds(value: int) -> int:
    """Check a number of folds.

    Raises:
        ValueError: there is a single fold.
    """
    if value == 1:
        raise ValueError("expected 0 (off) or at least 2")
    return value


class Detection(Entry):
    """How thresholds, detection statistics and best pairs of a data set are counted."""

    tail_fractions: Annotated[tuple[float, ...], AfterValidator(ascending)] = Field(
        TAIL_FRACTIONS, description="shares of the positive values that thresholds keep"
    )
    n_permutations: int = Field(100, ge=0, description="label shuffles behind the chance level; 0: none")
    n_bootstrap: int = Field(1000, ge=0, description="resamples behind the 95 % intervals; 0: none")
    n_folds: Annotated[int, AfterValidator(folds)] = Field(
        0, ge=0, description="folds of the cal examples that pairs are tried on; 0: none"
    )
    seed: int = Field(0, ge=0, description="of shuffles, resamples and folds")


class Dataset(NamedEntry):
    """A folder of examples with labels, splits and, where there are any, masks or spans."""

    description: str = ""
    root: Path
    layout: LayoutName
    modality: Modality
    concepts: tuple[ConceptName, ...] = Field(min_length=1)
    token_kinds: tuple[TokenKind, ...] = Field(
        default_factory=lambda data: TOKEN_KINDS.get(data.get("modality", ""), ()), min_length=1
    )
    models: tuple[ModelName, ...] = Field(min_length=1)
    chunk_size: int = Field(200, ge=1, description="examples per chunk")
    masks: Literal["files", "colour-difference", "auto"] = Field(
        "auto", description="masks/<name>.png, pixels whose channels differ by more than 20, or files where they exist"
    )
    min_overlap: int = Field(1, ge=1, description="pixels of a patch inside the mask that make it positive")
    annotations: Path | None = Field(None, description="file of regions or word labels; default: found by the layout")
    columns: Columns = Columns()
    split: SeededSplit | None = Field(None, description="draw the splits instead of reading them from a column")
    embeddings: dict[ModelName, dict[TokenKind, EmbeddingFiles]] = Field(
        default_factory=dict, description="precomputed embeddings by model and token kind, in place of the transformer"
    )
    calibration: Literal["refit", "freeze"] = Field(
        "refit", description="new calibration data: fit again, or keep the mapping and thresholds and only extend"
    )
    detection: Detection = Detection()
    arrivals: Arrivals = Arrivals()
    backfills: Backfills = Backfills()
    published: Published | None = Field(None, description="counts of a published data set, compared by `check`")
    owners: tuple[str, ...] = ()

    _paths = field_validator("root", "annotations", mode="before")(resolve_package)

    @field_validator("concepts", "token_kinds", "models")
    @classmethod
    def _unique(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"named twice: {', '.join(repeated)}")
        return values


class Catalog(Entry):
    """All data sets and models by name; every entry knows its own."""

    models: dict[ModelName, Model]
    datasets: dict[DatasetName, Dataset]

    @field_validator("models", "datasets")
    @classmethod
    def _named(cls, entries: dict[str, NamedEntry]) -> dict[str, NamedEntry]:
        return {name: entry.named(name) for name, entry in entries.items()}
