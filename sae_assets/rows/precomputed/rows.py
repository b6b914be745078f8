"""Embeddings made elsewhere as a source of rows: which rows of which file belong to which example.

Rows stand in the data set's order. How files are read is decided in ``files``.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_assets.artifacts import offsets_of
from sae_assets.catalog import EmbeddingFiles, Model
from sae_assets.datasets import TextReader
from sae_assets.errors import CatalogError, DatasetError
from sae_assets.rows.precomputed.files import Part, open_parts
from sae_assets.rows.source import ExampleRows, Normalisation
from sae_assets.rows.texts import open_tokens
from sae_assets.saes.files import file_hash

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sae_assets.datasets import Reader
    from sae_assets.rows.texts import Tokenized


@dataclass
class _Kind:
    """The files of one token kind and where each example's rows stand in them."""

    files: EmbeddingFiles
    parts: list[Part]
    offsets: "Tensor"  # int64 [n_examples + 1], rows of examples in the data set's order
    fixed: int | None  # rows of every example
    tokens: "dict[str, Tokenized] | None" = None  # where the tokenizer counted them

    def read(self, start: int, stop: int) -> "Tensor":
        """Return float32 [stop - start, width].

        Raises:
            DatasetError: values that are not finite; row and file are named.
        """
        import torch

        pieces, first = [torch.zeros(0, self.parts[0].width, dtype=torch.float32, device="cpu")], 0
        for part in self.parts:
            last = first + part.n_rows
            if first < stop and start < last:
                low = max(start - first, 0)
                rows = part.read(low, min(stop, last) - first).float()
                bad = (~rows.isfinite().all(1)).nonzero().flatten()
                if len(bad):
                    raise DatasetError(f"{part.path}: row {low + int(bad[0])} holds values that are not finite.")
                pieces.append(rows)
            if not start < last or last <= stop:
                part.close()  # what comes next lies elsewhere: one file is held at a time
            first = last
        return torch.cat(pieces)


class PrecomputedRows:
    """Rows of embedding files.

    Args:
        reader: examples; files: by token kind; kinds: those wanted; device: torch device of the rows.
        model: whose tokenizer counts the tokens of texts, where files do not say.

    Raises:
        DatasetError: files that are missing, unreadable, of different widths, or whose rows do not fit the examples.
    """

    def __init__(
        self, reader: "Reader", files: dict[Any, EmbeddingFiles], kinds: Sequence[str], device: Any,
        model: Model | None = None,
    ):  # fmt: skip
        self._reader, self._device, self._model = reader, device, model
        self._index = {record.example_id: position for position, record in enumerate(reader.records)}
        self._kinds = {kind: self._open(kind, files[kind]) for kind in kinds}
        widths = {kind: opened.parts[0].width for kind, opened in self._kinds.items()}
        if len(set(widths.values())) != 1:
            raise DatasetError(f"Embeddings of data set {reader.name!r} differ in width between token kinds: {widths}.")
        self.d_model = next(iter(widths.values()))
        self.final_norm = ""
        self.network: nn.Module | None = None
        self.doubts: Sequence[str] = ()
        self.normalisation: Normalisation | None = None
        self.longest: int | None = None
        self.origin = "the precomputed embeddings " + ", ".join(
            str(opened.files.path) for opened in self._kinds.values()
        )

    def _open(self, kind: str, files: EmbeddingFiles) -> _Kind:
        parts = open_parts(files)
        offsets, fixed = _located(kind, files, parts, len(self._index))
        if offsets is not None:
            return _Kind(files, parts, offsets, fixed)
        tokens = self._tokenized()
        import torch

        offsets = offsets_of(
            torch.tensor([len(text.spans) for text in tokens.values()], dtype=torch.int64, device="cpu")
        )
        total = sum(part.n_rows for part in parts)
        if int(offsets[-1]) != total:
            raise DatasetError(
                f"{files.path} holds {total} rows, but the tokenizer of {self._label} makes {int(offsets[-1])} tokens "
                f"of the {len(tokens)} texts. Give a Parquet file with example_index, or the settings that they "
                "were made with (`max_tokens`, `prepend_bos`)."
            )
        return _Kind(files, parts, offsets, None, tokens)

    @property
    def _label(self) -> str:
        return self._model.transformer.label if self._model and self._model.transformer else "no model"

    def _tokenized(self) -> "dict[str, Tokenized]":
        if self._model is None or self._model.transformer is None or not isinstance(self._reader, TextReader):
            raise DatasetError(
                f"Nothing says how many token rows each text of data set {self._reader.name!r} has. Give a Parquet "
                "file with example_index, `rows_per_example`, or the model's `transformer` (its tokenizer is enough)."
            )
        tokens = open_tokens(self._model)
        return {
            record.example_id: tokens.encode(self._reader.text(record.example_id)) for record in self._reader.records
        }

    @property
    def one_by_one(self) -> bool:
        return False

    def rows_per_example(self, kind: str) -> int | None:
        return self._kinds[kind].fixed

    def _range(self, kind: str, example_id: str) -> tuple[int, int]:
        self._reader.record(example_id)
        position = self._index[example_id]
        start, stop = self._kinds[kind].offsets[position : position + 2].tolist()
        return start, stop

    def embed(self, example_ids: Sequence[str]) -> Iterator[ExampleRows]:
        """Yield rows of these examples; each is read by itself.

        Raises:
            DatasetError: an example that is not in the data set, or values that are not finite.
        """
        for example in example_ids:
            rows = {kind: opened.read(*self._range(kind, example)) for kind, opened in self._kinds.items()}
            cut = max((opened.tokens[example].n_cut for opened in self._kinds.values() if opened.tokens), default=0)
            yield ExampleRows({kind: tensor.to(self._device) for kind, tensor in rows.items()}, cut)

    def spans(self, example_id: str) -> "Tensor":
        """Return characters [start, end) of the example's ``token`` rows, int64 [n_tokens, 2].

        Raises:
            CatalogError: neither columns ``start`` and ``end`` nor a tokenizer say it, and concepts are located.
            DatasetError: the tokenizer makes another number of tokens than the example has rows.
        """
        import torch

        opened, (first, last) = self._kinds["token"], self._range("token", example_id)
        if opened.tokens is not None:
            return opened.tokens[example_id].spans
        if (columns := self._columns(opened)) is not None:
            return columns[first:last]
        if self._model is not None and self._model.transformer is not None:
            assert isinstance(self._reader, TextReader)
            self._tokens = getattr(self, "_tokens", None) or open_tokens(self._model)
            spans = self._tokens.encode(self._reader.text(example_id)).spans
            if len(spans) != last - first:
                raise DatasetError(
                    f"{opened.files.path} holds {last - first} rows of {example_id!r}, but the tokenizer of "
                    f"{self._label} makes {len(spans)} tokens of it."
                )
            return spans
        if self._reader.has_regions:
            raise CatalogError(
                f"Nothing says where the tokens of data set {self._reader.name!r} stand: give columns start and end in "
                f"{opened.files.path}, or the model's `transformer` (its tokenizer is enough)."
            )
        return torch.zeros(
            last - first, 2, dtype=torch.int64, device="cpu"
        )  # concepts are nowhere: only the number counts

    def _columns(self, opened: _Kind) -> "Tensor | None":
        import torch

        if not hasattr(self, "_start_end"):
            pairs = [[part.integers(name) for name in ("start", "end")] for part in opened.parts]
            bounds = [torch.stack([start, end], 1) for start, end in pairs if start is not None and end is not None]
            self._start_end = torch.cat(bounds) if len(bounds) == len(pairs) else None
        return self._start_end


def _located(
    kind: str, files: EmbeddingFiles, parts: Sequence[Part], n_examples: int
) -> "tuple[Tensor | None, int | None]":
    """Return offsets of the examples' rows, and the number that all have; no offsets where only a tokenizer knows
    them."""
    import torch

    total = sum(part.n_rows for part in parts)
    indices = [part.integers("example_index") for part in parts]
    fixed = files.rows_per_example or (1 if kind == "cls" else None)
    if all(index is not None for index in indices):
        index = torch.cat([index for index in indices if index is not None])
        if bool((index.diff() < 0).any()):
            row = int((index.diff() < 0).nonzero()[0]) + 1
            raise DatasetError(
                f"{files.path}: example_index falls at row {row}; rows must stand in the data set's order."
            )
        if total and (int(index[0]) < 0 or int(index[-1]) >= n_examples):
            raise DatasetError(
                f"{files.path}: example_index goes from {int(index[0])} to {int(index[-1])}, but the data set has "
                f"{n_examples} examples (0..{n_examples - 1})."
            )
        counts = index.bincount(minlength=n_examples)
        if fixed is None and kind != "token":
            fixed = int(counts[0]) if n_examples else 0
        if fixed is not None and bool((counts != fixed).any()):
            example = int((counts != fixed).nonzero()[0])
            raise DatasetError(f"{files.path}: example {example} has {int(counts[example])} rows, expected {fixed}.")
        return offsets_of(counts), fixed
    if fixed is None:
        if kind == "token":
            return None, None
        if not n_examples or total % n_examples or not total:
            raise DatasetError(
                f"{files.path} holds {total} rows, no multiple of the data set's {n_examples} examples. Set "
                "`rows_per_example`, or give the files of this data set."
            )
        fixed = total // n_examples
    if total != fixed * n_examples:
        raise DatasetError(
            f"{files.path} holds {total} rows, expected {fixed} for each of {n_examples} examples: "
            f"{fixed * n_examples}."
        )
    return torch.arange(n_examples + 1, device="cpu") * fixed, fixed


def hash_rows(files: EmbeddingFiles, kind: str, reader: "Reader", example_ids: Sequence[str]) -> str:
    """Return sha256 over the files that hold these examples' rows, and over where in them these rows stand.

    A chunk file appended later changes no earlier hash. Where only a tokenizer knows the rows of each text, all files
    count.

    Raises:
        DatasetError: as :class:`PrecomputedRows`, or an example that is not in the data set.
    """
    parts = open_parts(files)
    positions = {record.example_id: index for index, record in enumerate(reader.records)}
    offsets, _ = _located(kind, files, parts, len(positions))
    ranges = []
    for example in example_ids:
        reader.record(example)
        if offsets is not None:
            ranges.append(tuple(offsets[positions[example] : positions[example] + 2].tolist()))
    digest, first = hashlib.sha256(repr((files.tensor, ranges)).encode()), 0
    for part in parts:
        last = first + part.n_rows
        if offsets is None or any(start < last and first < stop for start, stop in ranges):
            digest.update(f"{first} {file_hash(part.path)}".encode())
        first = last
    return digest.hexdigest()
