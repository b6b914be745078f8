"""The files of a detector: ``detector.json`` and ``detector.safetensors``, checked when they are read.

Names of files are fixed, so that nothing in a detector is taken for a place in its folder. Where it names a transformer
or an SAE by a path, that is loaded only once its hash is the one that is written beside it (``detector``).
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic import model_validator as check_model
from upath import UPath

from sae_assets import ops
from sae_assets.catalog.models import PACKAGE_PREFIX, Model, resolve_package
from sae_assets.errors import CheckpointError, DetectorError
from sae_assets.saes.weights import read_safetensors, tensor_problems
from sae_assets.storage.atomic import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.ops.sparse_activations import Encoder

FIGURES, TENSORS, CARD = "detector.json", "detector.safetensors", "README.md"
CURVES = ("knots", "probabilities")  # tensors: float64, of all concepts behind one another
OWN = "~/"  # paths below the home of whoever runs it
MOST_BYTES = 64 * 2**20  # of detector.json: one of a thousand concepts is two
Name = Annotated[str, Field(min_length=1, max_length=500)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class StrictModel(BaseModel):
    """Unknown keys and numbers that are not finite are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class DetectedConcept(StrictModel):
    """A concept, its unit, and what the pair is worth: ``figures`` is its line of ``best_pairs``.

    Attributes:
        threshold: of example scores; row_threshold: of rows, with which the unit falls best on the concept on cal; None
            where the concept is not located.
        n_knots: of its calibration, in the tensors.
    """

    concept: Name
    unit: int = Field(ge=0)
    threshold: float = Field(gt=0)
    row_threshold: float | None = Field(gt=0)
    n_knots: int = Field(ge=1)
    figures: dict[str, float | int | str | None]

    @property
    def marks_from(self) -> float:
        """From where on a row is marked."""
        return self.threshold if self.row_threshold is None else self.row_threshold


class Units(StrictModel):
    """The detector encodes these units.

    Attributes:
        encoded: ``needed``, whose ids are ``ids``, ascending; or ``all`` of the SAE, whose weights are in the tensors
            (``included``) or in its checkpoint. reason: why not the needed ones alone.
    """

    encoded: Literal["needed", "all"]
    included: bool
    reason: str
    ids: tuple[int, ...]
    n_units: int = Field(ge=1)
    d_model: int = Field(ge=1)
    activation: Literal["topk", "jumprelu"]
    k: int | None = Field(ge=1)

    @check_model(mode="after")
    def _of_the_sae(self) -> "Units":
        if self.encoded == "needed" and (self.activation == "topk" or not self.included):
            raise ValueError("needed units alone are those of jumprelu or relu, and in the tensors")
        ascending = list(self.ids) == sorted(set(self.ids))
        if not ascending or not self.ids or not 0 <= self.ids[0] <= self.ids[-1] < self.n_units:
            raise ValueError(f"ids must ascend within 0 to {self.n_units - 1}")
        if (self.activation == "topk") != (self.k is not None):
            raise ValueError("k is of topk alone")
        return self


class Origin(StrictModel):
    """The detector was fitted on this."""

    dataset: Name
    n_cal: int
    n_test: int
    fingerprints: dict[str, str]
    producer: str


class DetectorFigures(StrictModel):
    """All of ``detector.json``."""

    format: Literal["sae_assets detector"] = "sae_assets detector"
    version: Literal[1] = 1
    tensors_sha256: Hash
    origin: Origin
    token_kind: Literal["patch", "token", "cls"]
    model_name: Name
    model: dict[str, Any]
    transformer: dict[str, Any]
    sae_sha256: Hash
    white: float | None = None
    k_stored: int | None = Field(ge=1)
    precision: Literal["float32", "bfloat16", "float16"]
    forward_batch: int | None = Field(ge=1)
    stored_values: Literal["float32", "float16"] = "float32"
    pooling: Literal["max", "mean", "topk_mean", "last"]
    pooling_k: int = Field(ge=1)
    units: Units
    concepts: tuple[DetectedConcept, ...] = Field(min_length=1)
    without_unit: tuple[Name, ...] = ()

    @check_model(mode="after")
    def _whole(self) -> "DetectorFigures":
        names = [each.concept for each in self.concepts]
        if len(set(names)) != len(names):
            raise ValueError("a concept is named twice")
        missing = sorted({each.unit for each in self.concepts} - set(self.units.ids))
        if missing:
            raise ValueError(f"units {missing} of concepts are not among units.ids")
        return self

    @property
    def entry(self) -> Model:
        """Return the model as a catalog would have it. Raises: ValueError: it is none."""
        content = dict(self.model)
        for part in ("transformer", "sae"):
            content[part] = {key: _place(value) if key in ("path", "weights") else value
                             for key, value in dict(content.get(part) or {}).items()}  # fmt: skip
        return Model.model_validate(content).named(self.model_name)


def _place(value: Any) -> Any:
    """Return a path of a detector: absolute, below one's home, or in this package and not out of it.

    Raises:
        ValueError: it is none of these.
    """
    if value is None:
        return None
    if str(value).startswith(OWN):
        value = str(Path.home() / str(value).removeprefix(OWN))
    inside = str(value).startswith(PACKAGE_PREFIX)
    path = PurePosixPath(str(value).removeprefix(PACKAGE_PREFIX)) if inside else Path(str(value))
    if path.is_absolute() == inside or ".." in path.parts or str(value).startswith(("//", "\\\\")):
        raise ValueError(f"found the path {value!r}, expected an absolute one or `{PACKAGE_PREFIX}` and one inside it")
    return resolve_package(str(value))


def portable(model: Model) -> dict[str, Any]:
    """Return a model's catalog entry as plain values; paths into this package begin with ``package:``, those below the
    home of who writes it with ``~/``: detectors travel, and whose home it was is nobody's business."""
    content = model.model_dump(mode="json", exclude={"bounds", "pruning", "stored_values"}, exclude_none=True)
    for part in ("transformer", "sae"):
        for key in ("path", "weights"):
            path = content[part].get(key)
            if path is not None:
                content[part][key] = _shortened(Path(os.path.abspath(path)))  # noqa: PTH100 (links stay, `..` goes)
    return content


def _shortened(path: Path) -> str:
    for prefix, folder in ((PACKAGE_PREFIX, Path(str(resolve_package(PACKAGE_PREFIX)))), (OWN, Path.home())):
        if path.is_relative_to(folder):
            return prefix + path.relative_to(folder).as_posix()
    return str(path)


def encoder_tensors(encoder: "Encoder", units: Sequence[int] | None) -> "dict[str, Tensor]":
    """Return weights of these units (None: all), float32: ``weight`` [n, d], ``shift`` [d], ``bias``,
    ``jump_threshold``."""
    import torch

    index = slice(None) if units is None else torch.tensor(units, dtype=torch.int64, device=encoder.columns.device)
    tensors = {"weight": encoder.columns[index], "shift": encoder.shift.float(), "bias": encoder.bias.float()[index]}
    if isinstance(encoder, ops.jumprelu.JumpReluEncoder):
        tensors["jump_threshold"] = encoder.jump_threshold[index]
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def encoder_of(units: Units, tensors: "Mapping[str, Tensor]", device: Any, memory_budget: int) -> "Encoder":
    """Return the encoder of these tensors; its units are numbered by their place among those that are encoded."""
    shared: dict[str, Any] = {"shift": tensors["shift"], "bias": tensors["bias"]}
    shared |= {"device": device, "memory_budget": memory_budget}
    weight = tensors["weight"].T
    if units.activation == "jumprelu":
        return ops.jumprelu.JumpReluEncoder(weight, tensors["jump_threshold"], **shared)
    assert units.k is not None
    return ops.sparse_activations.TopKEncoder(weight, units.k, **shared)


def write_detector(folder: Path, figures: Mapping[str, Any], tensors: "Mapping[str, Tensor]", card: str) -> None:
    """Write the files of a detector into a folder that is not there, or holds a detector.

    Raises:
        DetectorError: the folder holds something else.
    """
    from safetensors.torch import save

    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FIGURES).is_file())):
        raise DetectorError(f"{folder} is there and is no detector: nothing was written. Name another folder.")
    content = save(dict(tensors))
    whole = DetectorFigures.model_validate({**figures, "tensors_sha256": hashlib.sha256(content).hexdigest()})
    figures_of = json.dumps(whole.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    # Cut off between the files, the hash that the figures name is not that of the tensors: it is refused, not misread.
    for name, written in ((TENSORS, content), (FIGURES, figures_of.encode()), (CARD, card.encode())):
        write_atomically(UPath(folder / name), written)


def read_detector(folder: Path) -> "tuple[DetectorFigures, dict[str, Tensor]]":
    """Return the files of a detector, with nothing wrong in them.

    Args:
        folder: or the path of its ``detector.json``.

    Raises:
        DetectorError: a file that is missing, damaged or something else; all that is wrong with it is named.
    """
    if folder.name == FIGURES and folder.is_file():
        folder = folder.parent
    figures = _read_figures(folder / FIGURES)
    path = folder / TENSORS
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DetectorError(f"{path} cannot be read: {error.strerror}. A detector is a folder with both.") from None
    if sha256 != figures.tensors_sha256:
        raise DetectorError(
            f"{path} is damaged, or of another detector: its sha256 is {sha256[:12]}, {FIGURES} says "
            f"{figures.tensors_sha256[:12]}. Copy the whole folder again."
        )
    try:
        tensors = read_safetensors(path)
    except CheckpointError as error:
        raise DetectorError(str(error)) from None
    problems = _tensor_problems(figures, tensors)
    if problems:
        raise DetectorError(f"{path} does not hold what {FIGURES} says:", problems)
    return figures, tensors


def _read_figures(path: Path) -> DetectorFigures:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DetectorError(f"{path} has more than {MOST_BYTES // 2**20} MiB and is no detector.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectorError(f"{path.parent} is no detector: it has no {FIGURES}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DetectorError(f"{path} cannot be read as JSON: {str(error).splitlines()[0]}.") from None
    if not isinstance(content, dict) or content.get("format") != "sae_assets detector":
        raise DetectorError(f"{path} is no detector of sae_assets (`sae-assets export-detector` writes one).")
    if content.get("version") != 1:
        raise DetectorError(f"{path} is of version {content.get('version')!r}; this sae_assets reads version 1.")
    try:
        figures = DetectorFigures.model_validate(content)
        _ = figures.entry
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:20]]
        raise DetectorError(f"{path} is damaged:", problems) from None
    except (ValueError, TypeError) as error:
        raise DetectorError(f"{path} is damaged:", [f"model: {error}"]) from None
    return figures


def _tensor_problems(figures: DetectorFigures, tensors: "Mapping[str, Tensor]") -> list[str]:
    units, knots = figures.units, sum(each.n_knots for each in figures.concepts)
    shapes: dict[str, tuple[int | None, ...]] = {}
    if units.included:
        n = len(units.ids) if units.encoded == "needed" else units.n_units
        shapes = {"weight": (n, units.d_model), "shift": (units.d_model,), "bias": (n,)}
        shapes |= {"jump_threshold": (n,)} if units.activation == "jumprelu" else {}
    curves = {name: tensors[name] for name in CURVES if name in tensors}
    weights = {name: tensor for name, tensor in tensors.items() if name not in CURVES}
    problems = tensor_problems(curves, dict.fromkeys(CURVES, (knots,)), ("float64",))
    problems += tensor_problems(weights, shapes)
    if problems:
        return problems
    heights = curves["probabilities"]
    if bool((heights < 0).any()) or bool((heights > 1).any()):
        problems.append("probabilities must lie within 0 and 1")
    for each, part in zip(figures.concepts, knots_of(figures, curves["knots"]), strict=True):
        if bool((part.diff() <= 0).any()):
            problems.append(f"knots of {each.concept!r} must ascend")
    return problems


def knots_of(figures: DetectorFigures, joined: "Tensor") -> "Sequence[Tensor]":
    """Return the part of each concept of a tensor in which they stand behind one another."""
    return joined.split([each.n_knots for each in figures.concepts])
