"""A detector: chosen units, taken along and applied to new pictures and texts without the data set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts import SparseRows
from sae_assets.catalog import Model
from sae_assets.datasets.inputs import named_inputs, read_input
from sae_assets.errors import DatasetError, DetectorError, SaeAssetsError
from sae_assets.reading.detector_file import encoder_of, knots_of, read_detector
from sae_assets.reading.encoding import Encoded, EncodedInput, EncodeSettings, encode_inputs
from sae_assets.reading.marked import HeatMap, MarkedText
from sae_assets.rows.identity import transformer_identity
from sae_assets.rows.loaded import OpenedSae, open_encoder
from sae_assets.saes import locate_sae, sae_hash
from sae_assets.settings import memory_budget_mb

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 32  # inputs that are encoded together; nothing depends on it


@dataclass(frozen=True)
class Detection:
    """A detector says this of one concept in one input.

    Attributes:
        score: of its unit, float32, as the pipeline scores an example; detected: whether it reaches the threshold.
        probability: that the concept is there, of examples as they were on cal.
    """

    concept: str
    unit: int
    score: float
    threshold: float
    detected: bool
    probability: float


class DetectedInput:
    """One picture or text with what was found in it; an input that cannot be read has an ``error`` in place of it."""

    def __init__(self, name: str, detections: Sequence[Detection], error: str = "", encoded: EncodedInput | None = None,
                 marks: "dict[str, tuple[int, float]] | None" = None):  # fmt: skip
        self.name, self.detections, self.error = name, tuple(detections), error
        self._encoded, self._marks = encoded, marks or {}

    def __repr__(self) -> str:
        return f"{self.name}: {self.error or ', '.join(self.detected) or 'nothing'}"

    def __getitem__(self, concept: str) -> Detection:
        """Return what is said of a concept. Raises: KeyError: the detector does not know it."""
        return {detection.concept: detection for detection in self.detections}[concept]

    @property
    def detected(self) -> list[str]:
        """Return the concepts that were found."""
        return [detection.concept for detection in self.detections if detection.detected]

    def heat_map(self, concept: str) -> HeatMap:
        """Return where in the picture the concept's unit fires.

        Raises:
            CatalogError: its rows are no patches; DetectorError: the input could not be read; KeyError: no such
                concept.
        """
        encoded, unit, threshold = self._marked(concept)
        return encoded.heat_map(unit, threshold)

    def tokens(self, concept: str) -> MarkedText:
        """Return the tokens of the text and the value of the concept's unit on each. Raises: as :meth:`heat_map`."""
        encoded, unit, threshold = self._marked(concept)
        return encoded.tokens(unit, threshold)

    def _marked(self, concept: str) -> tuple[EncodedInput, int, float]:
        if self._encoded is None:
            raise DetectorError(f"{self.name}: {self.error}")
        return self._encoded, *self._marks[concept]


class Detector:
    """A detector of a folder that ``sae-assets export-detector`` wrote.

    Args:
        folder: of the detector.
        transformer, sae: where their files lie on this machine, if not where the detector says; their hashes must be
            those that are written in it.
        device: auto, cpu, cuda or cuda:<number>.

    Raises:
        DetectorError: a file that is damaged or foreign, or a transformer or SAE that is not here or is another one.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        transformer: Path | str | None = None,
        sae: Path | str | None = None,
        device: str = "auto",
    ):
        self.folder = Path(folder).expanduser()
        self.figures, self._tensors = read_detector(self.folder)
        self._device = device
        self.model = self._found(transformer, sae)

    def __repr__(self) -> str:
        origin = self.figures.origin.dataset
        return f"Detector of {', '.join(self.concepts)} ({origin}/{self.figures.token_kind}/{self.figures.model_name})"

    @property
    def concepts(self) -> list[str]:
        """Return what it detects."""
        return [each.concept for each in self.figures.concepts]

    @property
    def modality(self) -> str:
        """``image`` or ``text``."""
        return self.model.modality

    def detect(self, inputs: Mapping[str, Any] | Sequence[Any] | Any) -> list[DetectedInput]:
        """Look at pictures or texts.

        Args:
            inputs: as ``datasets.inputs.read_input`` takes them: paths, pictures, arrays; texts, or paths of texts. One
                of them, several, or several by name.

        Raises:
            CheckpointError: weights that cannot be had. An input that cannot be read has its own ``error``.
        """
        single = isinstance(inputs, (str, Path)) or not isinstance(inputs, (Sequence, Mapping))
        return list(self.stream([inputs] if single else inputs))

    def stream(self, inputs: Mapping[str, Any] | Sequence[Any]) -> Iterator[DetectedInput]:
        """Yield the same, one after the other, with 32 inputs in memory."""
        named = list((inputs if isinstance(inputs, Mapping) else named_inputs(inputs, self.modality)).items())
        for start in range(0, len(named), AT_ONCE):
            yield from self._look(dict(named[start : start + AT_ONCE]))

    def _look(self, named: dict[str, Any]) -> Iterator[DetectedInput]:
        contents, errors = {}, {}
        for name, one in named.items():
            try:
                contents[name] = read_input(one, self.modality, self.figures.white)
            except (DatasetError, OSError) as error:
                errors[name] = str(error)
        inputs = iter(self._encoded(contents)) if contents else iter(())
        for name in named:
            yield DetectedInput(name, (), errors[name]) if name in errors else next(inputs)

    def _encoded(self, contents: dict[str, Any]) -> Iterator[DetectedInput]:
        figures = self.figures
        names = ("k_stored", "precision", "forward_batch", "white", "stored_values")
        settings = EncodeSettings(**{name: getattr(figures, name) for name in names})
        rows, locations = encode_inputs(
            contents, self.model, figures.token_kind, settings, device=self._device, sae=self._opened
        )
        encoded = Encoded(contents, rows, locations, lambda unit: 1.0)
        scores = scores_of(rows, ops.pooling.Pooling(figures.pooling, figures.pooling_k), self._columns)
        curves = [knots_of(figures, self._tensors[name]) for name in ("knots", "probabilities")]
        parts = zip(figures.concepts, scores, *curves, strict=True)
        of_concepts = [
            (each, score.tolist(), (score.double() >= each.threshold).tolist(),
             ops.prevalence_free.interpolate(knots, heights, score).tolist())
            for each, score, knots, heights in parts
        ]  # fmt: skip
        marks = {each.concept: (column, each.marks_from)
                 for each, column in zip(figures.concepts, self._columns, strict=True)}  # fmt: skip
        for index, one in enumerate(encoded):
            detections = [
                Detection(each.concept, each.unit, score[index], each.threshold, yes[index], probability[index])
                for each, score, yes, probability in of_concepts
            ]
            yield DetectedInput(one.name, detections, encoded=one, marks=marks)

    @property
    def _columns(self) -> list[int]:
        """Number of each concept's unit among those that are encoded."""
        units = self.figures.units
        of_concepts = [each.unit for each in self.figures.concepts]
        return [units.ids.index(unit) for unit in of_concepts] if units.encoded == "needed" else of_concepts

    @cached_property
    def _opened(self) -> OpenedSae:
        """Return the SAE, or what the detector holds of it, on the device."""
        units, device = self.figures.units, ops.device.resolve_device(self._device)
        budget = ops.device.memory_budget(memory_budget_mb(), device)
        if not units.included:
            opened = open_encoder(self.model.sae, device, budget)
            if (opened.encoder.n_units, opened.d_model) != (units.n_units, units.d_model):
                raise DetectorError(f"{self.folder}: the SAE {opened.name} has another shape than the detector says.")
            return OpenedSae(opened.name, opened.hook_point, opened.training, opened.d_model, opened.encoder, None)
        encoder = encoder_of(units, self._tensors, device, budget)
        return OpenedSae(str(self.folder), None, {}, units.d_model, encoder, None)

    def _found(self, transformer: Path | str | None, sae: Path | str | None) -> Model:
        """Return the model with its files on this machine, which are those that the detector was made with."""
        model = self.figures.entry
        changes: dict[str, Any] = {}
        if transformer is not None:
            content = {"library": model.transformer.library if model.transformer else "", "path": transformer}
            changes["transformer"] = content
        if sae is not None:
            changes["sae"] = {"format": model.sae.format, "path": sae}
        try:
            model = Model.model_validate({**model.model_dump(), **changes}).named(model.name)
            self._expect_transformer(model, named_by_caller=transformer is not None)
            if not self.figures.units.included:
                self._expect_sae(model)
        except DetectorError:
            raise
        except (SaeAssetsError, OSError, ValueError) as error:
            raise DetectorError(
                f"{self.folder}: {error} Name the files on this machine (`--transformer`, `--sae`)."
            ) from None
        return model

    def _expect_transformer(self, model: Model, *, named_by_caller: bool) -> None:
        expected = self.figures.transformer
        named = "weights" not in expected and "files" not in expected
        if named_by_caller and named:  # a copy of the hub's model, of which no hash is known
            return
        identity = transformer_identity(model.transformer)
        if identity != expected:
            assert model.transformer is not None
            raise DetectorError(
                f"{self.folder} was made with another transformer than {model.transformer.label}: their hashes differ. "
                "Name the right one by `--transformer`."
            )

    def _expect_sae(self, model: Model) -> None:
        path = locate_sae(model.sae, download=True)
        assert path is not None
        if sae_hash(path) != self.figures.sae_sha256:
            raise DetectorError(
                f"{self.folder} was made with another SAE than {path}: their hashes differ. Name the right one by "
                "`--sae`."
            )


def scores_of(rows: SparseRows, pooling: "ops.pooling.Pooling", units: Sequence[int]) -> "Tensor":
    """Return scores of units in each example, float32 [n_units asked for, n_examples], 0 where one is silent."""
    import torch

    unit, score, example = ops.pooling.pool_rows(rows, pooling)
    result = torch.zeros(len(units), rows.n_examples, dtype=torch.float32, device="cpu")
    for index, each in enumerate(units):
        mine = unit == each
        result[index, example[mine]] = score[mine]
    return result
