"""The catalog's entries of data sets, and the catalog itself. Frozen, typed, unknown keys refused."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, StringConstraints, field_validator
from pydantic import model_validator as check_model

from sae_assets.catalog.detection import Controls, Detection
from sae_assets.catalog.models import Entry, Modality, Model, ModelName, NamedEntry, resolve_package
from sae_assets.catalog.registry import layouts, one_of
from sae_assets.wording import alike, is_plain, looks

# Keys become folder names, asset key parts, group names and partition keys: nothing that a path or Dagster reads.
DatasetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


def _plain_name(value: str) -> str:
    if not is_plain(value):
        raise ValueError("expected one line without control characters and without marks of text direction")
    if not looks(value):
        raise ValueError("expected a name that can be seen")
    return value


ConceptName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_plain_name)]
TokenKind = Literal["patch", "token", "cls"]
LayoutName = Annotated[str, AfterValidator(one_of(layouts))]


def _cron(value: str) -> str:
    if len(value.split()) != 5 or not all(re.fullmatch(r"[\w*/,#-]+", field) for field in value.split()):
        raise ValueError("a cron expression has five fields: minute, hour, day, month, weekday")
    return value


def _owner(value: str) -> str:
    """Check an owner, of whom Dagster takes these forms only."""
    if not re.fullmatch(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", value):
        raise ValueError("expected an e-mail address, or `team:` and a name")
    return value


CronExpression = Annotated[str, AfterValidator(_cron)]

TOKEN_KINDS: dict[str, tuple[TokenKind, ...]] = {"image": ("patch", "cls"), "text": ("token", "cls")}


class Columns(Entry):
    """``columns`` says which columns of a table hold what (layouts ``table``, ``spans`` and ``huggingface``)."""

    id: str | None = Field(None, description="the example's id; default: stem of its file, or its row number")
    image: str = Field("image", description="path of the image, or its bytes")
    text: str = Field("text", description="the text itself")
    split: str = Field("split", description="`train`, `cal` or `test`")
    labels: str | None = Field(
        None, description="the concepts that are true, as a list; default: a 0/1 column per concept"
    )
    label_separator: str | None = Field(
        None,
        min_length=1,
        description="what stands between the labels of a cell that is a text; default: `;`, and what looks like "
        "another one is refused",
    )
    spans: str = Field("spans", description="where concepts are in a text")
    offsets: Literal["codepoints", "utf16", "bytes"] = Field(
        "codepoints",
        description="what the numbers of spans count: `codepoints` (Python), `utf16` (JavaScript and Java, so Label "
        "Studio) or `bytes` of UTF-8",
    )
    mask: str | None = Field(None, description="path of a mask for all concepts of the image, or its bytes")


class SeededSplit(Entry):
    """Shares of a split that is drawn by example id, once, when an example's chunk is registered."""

    train: float = Field(0.5, ge=0, le=1, description="share of the examples")
    cal: float = Field(0.25, gt=0, le=1, description="share of the examples")
    test: float = Field(0.25, gt=0, le=1, description="share of the examples; the three sum to 1")
    seed: int = Field(0, description="another seed, another draw")

    @check_model(mode="after")
    def _whole(self) -> "SeededSplit":
        total = self.train + self.cal + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, cal and test must sum to 1, found {total:g}")
        return self


class Published(Entry):
    """Counts that a published data set has, to be compared with the files given."""

    train: int = Field(description="examples")
    cal: int = Field(description="examples")
    test: int = Field(description="examples")
    always_positive_f1: float | None = Field(
        None, description="weighted F1 of calling every test example positive; default: not compared"
    )


class EmbeddingFiles(Entry):
    """Embeddings made elsewhere, one row per token, examples in the order of the data set."""

    path: Path = Field(description="a .pt, .safetensors or .parquet file; of chunked .pt files the …_chunks_info.json")
    tensor: str = Field("embeddings", description="name of the tensor (safetensors) or list column (Parquet)")
    rows_per_example: int | None = Field(
        None, ge=1, description="how many rows an example has; default: 1 for `cls`, else rows / examples"
    )

    _paths = field_validator("path", mode="before")(resolve_package)


class Arrivals(Entry):
    """``arrivals`` says how a growing data set becomes chunks: full ones at once, the rest when it has waited long
    enough."""

    settle_seconds: float = Field(
        10, ge=0, description="a file that changed later than this long ago is still being written"
    )
    close_after_seconds: float | None = Field(
        3600, ge=0, description="a tail that is not full closes this long after its last arrival; null: only by hand"
    )
    check_every_seconds: int = Field(60, ge=5, description="time between two looks of the sensor")
    chunks_per_tick: int = Field(50, ge=1, description="most chunks that one look registers")


class Backfills(Entry):
    """``backfills`` says when a data set's schedules launch backfills (they ship switched off) and how much."""

    cron: CronExpression = Field("0 2 * * *", description="when what is missing or stale is made (UTC)")
    repair_cron: CronExpression = Field("30 5 * * *", description="the same with what failed before")
    check_cron: CronExpression = Field(
        "0 4 * * 0",
        validation_alias=AliasChoices("check_cron", "verify_cron"),  # the second: its name in catalogs of before
        description="when all registered examples are hashed again",
    )
    partitions_per_tick: int = Field(200, ge=1, description="most chunk partitions in one backfill")


def _mask_labels(value: object) -> object:
    """One label of a concept is a list of one. Raises: ValueError, for what is no number, range or colour."""
    labels = value if isinstance(value, (list, tuple)) else [value]
    for label in labels:
        number = isinstance(label, int) and not isinstance(label, bool) and label >= 0
        bounds = re.fullmatch(r"(\d{1,10})-(\d{1,10})", label) if isinstance(label, str) else None
        ordered = bounds is not None and int(bounds[1]) <= int(bounds[2])
        if not (number or ordered or (isinstance(label, str) and re.fullmatch("#[0-9a-fA-F]{6}", label))):
            raise ValueError(
                f"expected a class number (7), a range of them ('26000-26999'), a colour ('#804080') or a list of "
                f"these; found {label!r}"
            )
    return tuple(labels)


MaskLabels = Annotated[tuple[int | str, ...], Field(min_length=1), BeforeValidator(_mask_labels)]


class Dataset(NamedEntry):
    """A folder of examples with labels, splits and, where there are any, masks or spans."""

    description: str = Field("", description="one sentence for the UI")
    root: Path = Field(description="the folder (or table); relative to the catalog file")
    layout: LayoutName = Field(description="how the folder lies on disk")
    modality: Modality = Field(description="what an example is; not every layout has both")
    concepts: tuple[ConceptName, ...] = Field(
        min_length=1, description="their names, in the order of every table that follows"
    )
    token_kinds: tuple[TokenKind, ...] = Field(
        default_factory=lambda data: TOKEN_KINDS.get(data.get("modality", ""), ()),
        min_length=1,
        description="rows that an example has: of images `patch` and `cls`, of texts `token` and `cls`; default: both",
    )
    models: tuple[ModelName, ...] = Field(min_length=1, description="entries of `models` of the same modality")
    chunk_size: int = Field(200, ge=1, description="examples per chunk")
    masks: Literal["files", "colour-difference", "auto"] = Field(
        "auto",
        description="`files`; `colour-difference` (layout `clevr` alone): pixels whose channels differ by more than "
        "20; `auto`: files where there are any",
    )
    separator: Literal[",", ";", "\t", "|"] | None = Field(
        None,
        description='what stands between the cells of CSV tables: `,`, `;`, `|` or a tab (`"\\t"`); default: `,`, in '
        ".tsv files a tab",
    )
    backslashes: Literal["literal", "escape"] | None = Field(
        None,
        description="what a backslash in a CSV table means: itself (`literal`), or that the backslash, quote, "
        "separator or end of line behind it stands for itself (`escape`); default: what may be either is refused",
    )
    labels: dict[ConceptName, MaskLabels] | Literal["any"] | None = Field(
        None,
        description="what the values of masks mean: of each concept a class number, a range of them (`26000-26999`), a "
        "colour (`'#804080'`) or a list of these; or `any`: whatever is not black is inside; default: masks have one "
        "value beside black",
    )
    min_overlap: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = Field(
        1, description="what of a patch must lie inside the mask: below 1 a share of its pixels, from 1 on pixels"
    )
    white: float | None = Field(
        None,
        gt=0,
        description="images: the number that is white, of pixels of more than 8 bits; default: as the table of pixels "
        "says",
    )
    annotations: Path | None = Field(
        None, description="file or folder of regions or word labels; default: where the layout looks"
    )
    columns: Columns = Field(Columns(), description="which columns of the table hold what")
    follow_symlinks: bool = Field(
        False, description="whether links in the folder may lead out of it; a data set of others could name any file"
    )
    split: SeededSplit | None = Field(None, description="draw the splits by example id; default: they are a column")
    embeddings: dict[ModelName, dict[TokenKind, EmbeddingFiles]] = Field(
        default_factory=dict, description="precomputed embeddings by model and token kind, in place of the transformer"
    )
    calibration: Literal["refit", "freeze"] = Field(
        "refit",
        description="`refit`, or `freeze`: new calibration data change neither mapping nor thresholds nor pairs, nor "
        "coalitions nor cut-offs of localisation",
    )
    detection: Detection = Field(Detection(), description="how thresholds and detection are counted")
    controls: Controls | None = Field(
        None, description="what controls are given; `{}` switches them on; default: null: there are none"
    )
    unit_rows: bool = Field(
        False,
        description="true stores activations by unit too: a unit's rows are found at once, for as much disk again",
    )
    arrivals: Arrivals = Field(Arrivals(), description="when new examples become chunks")
    backfills: Backfills = Field(
        Backfills(), description="what the schedules do, which ship switched off; times are cron expressions"
    )
    published: Published | None = Field(None, description="figures that `sae-assets inspect` compares")
    owners: tuple[Annotated[str, AfterValidator(_owner)], ...] = Field(
        (), description="e-mail addresses or `team:NAME`, shown in the UI"
    )

    _paths = field_validator("root", "annotations", mode="before")(resolve_package)

    @field_validator("concepts", "token_kinds", "models")
    @classmethod
    def _unique(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"named twice: {', '.join(repeated)}")
        return values

    @field_validator("concepts")
    @classmethod
    def _told_apart(cls, concepts: tuple[str, ...]) -> tuple[str, ...]:
        if same := alike(concepts):
            raise ValueError(f"look alike, so that one is read for the other: {', '.join(same)}; rename one of them")
        return concepts


class Catalog(Entry):
    """All data sets and models by name; every entry knows its own."""

    models: dict[ModelName, Model]
    datasets: dict[DatasetName, Dataset]

    @field_validator("models", "datasets")
    @classmethod
    def _named(cls, entries: dict[str, NamedEntry]) -> dict[str, NamedEntry]:
        return {name: entry.named(name) for name, entry in entries.items()}
