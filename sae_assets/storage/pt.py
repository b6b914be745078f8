"""Artifacts as ``.pt``: the published dictionaries, for activations and mappings, read with ``weights_only=True``.

``{'indices' int32 [n, k], 'values' float32 [n, k], 'format', 'topk'}`` with zeros where a row holds fewer entries, and
``{'kept_units', 'unit_id_to_new_idx', 'n_original', 'n_filtered'}``. One more key, ``sae_assets``, holds the header
and what the published dictionary has no place for. The seal is the comment at the end of the zip archive.
"""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sae_assets import ops
from sae_assets.artifacts import Artifact, FilteredActivations, SparseActivations, SparseRows, UnitMapping, offsets_of
from sae_assets.errors import StoredFileError
from sae_assets.storage import seal
from sae_assets.storage.header import KEY, Header, read_header
from sae_assets.storage.tables.sparse_activations import SCALARS, optional_scalars, stored_fit
from sae_assets.storage.tables.unit_mapping import mapping_scalars

KINDS = ("sparse_activations", "filtered_activations", "unit_mapping")


def dump(artifact: Artifact, header: Callable[[dict[str, Any]], Header]) -> bytes:
    """Return the file's bytes; ``header`` makes the header from the scalars."""
    if isinstance(artifact, UnitMapping):
        content: dict[str, Any] = _mapping_dictionary(artifact)
        extra, scalars = {"reasons": artifact.reasons}, mapping_scalars(artifact)
    elif isinstance(artifact, SparseRows):
        content = _padded(artifact)
        extra = {"example_offsets": artifact.example_offsets, "entries_per_row": artifact.entries_per_row().int()}
        scalars = {"first_example": artifact.first_example, "n_units": artifact.n_units}
        if isinstance(artifact, SparseActivations):
            extra["l0"] = artifact.l0
            scalars |= {name: getattr(artifact, name) for name in ("k_stored", *SCALARS)} | optional_scalars(artifact)
        else:
            assert isinstance(artifact, FilteredActivations)
            scalars["n_original"] = artifact.n_original
    else:
        raise TypeError(f"{artifact.kind} has no .pt form")
    buffer = io.BytesIO()
    torch.save({**content, KEY: {"header": header(scalars).to_json(), **extra}}, buffer)
    comment = seal.blank(seal.FILE).encode()
    buffer.seek(-2, io.SEEK_END)  # a zip archive ends with the length of its comment, and the comment
    buffer.write(len(comment).to_bytes(2, "little") + comment)
    with buffer.getbuffer() as whole:
        seal.seal(whole)
    return buffer.getvalue()


def load_file(path: Any) -> tuple[Artifact, Header]:
    """Return the artifact and header of a file. Raises: as :func:`load`."""
    return load(path.read_bytes(), str(path))


def _mapping_dictionary(artifact: UnitMapping) -> dict[str, Any]:
    return {
        "kept_units": artifact.kept_units,
        "unit_id_to_new_idx": {unit: position for position, unit in enumerate(artifact.kept_units.tolist())},
        "n_original": artifact.n_original,
        "n_filtered": artifact.n_filtered,
    }


def _padded(artifact: SparseRows) -> dict[str, Any]:
    lengths = artifact.entries_per_row()
    width = int(lengths.max()) if len(lengths) else 0
    if isinstance(artifact, SparseActivations) and artifact.k_stored is not None:
        width = artifact.k_stored
    row = artifact.row_of_entry()
    position = torch.arange(artifact.n_entries, device="cpu") - artifact.row_offsets[row]
    indices = torch.zeros(artifact.n_rows, width, dtype=torch.int32, device="cpu")
    values = torch.zeros(artifact.n_rows, width, dtype=torch.float32, device="cpu")
    indices[row, position], values[row, position] = artifact.unit_ids, artifact.values
    name = "sparse_filtered" if isinstance(artifact, FilteredActivations) else "sparse_topk"
    return {"indices": indices, "values": values, "format": name, "topk": width}


def load(content: bytes, where: str) -> tuple[Artifact, Header]:
    """Return the artifact and header of a file's bytes.

    Raises:
        StoredFileError: not a file that ``weights_only=True`` reads, not ours, damaged, or other tensors than the
            kind's.
    """
    try:
        stored = ops.plain.load(io.BytesIO(content))
        if not isinstance(stored, dict) or not isinstance(stored.get(KEY), dict):
            raise KeyError(KEY)
        own = stored[KEY]
    except (ValueError, KeyError) as error:
        raise StoredFileError(f"{where} is not a .pt file of sae_assets ({error}). Materialize it again.") from None
    header = read_header(own.get("header"), where)
    seal.check(content, where, sealed=header.sealed)
    try:
        return _decode(header, stored, own), header
    except Exception as error:
        raise StoredFileError(
            f"{where} does not hold what its header says ({type(error).__name__}: {error}). Materialize it again."
        ) from None


def _decode(header: Header, stored: dict[str, Any], own: dict[str, Tensor]) -> Artifact:
    scalars = dict(header.scalars)
    if header.kind == "unit_mapping":
        mapping = UnitMapping(reasons=own["reasons"], **scalars)
        published = _mapping_dictionary(mapping)
        if not torch.equal(stored["kept_units"], published.pop("kept_units")) or any(
            stored[name] != value for name, value in published.items()
        ):
            raise ValueError("the published entries do not say what the reasons say")
        return mapping
    lengths = own["entries_per_row"].long()
    filled = torch.arange(stored["values"].shape[1], device="cpu") < lengths[:, None]
    rows = {
        "example_offsets": own["example_offsets"],
        "row_offsets": offsets_of(lengths),
        "unit_ids": stored["indices"][filled],
        "values": stored["values"][filled],
        **scalars,
    }
    if header.kind == "sparse_activations":
        return SparseActivations(**{**rows, "l0": own["l0"], "fit": stored_fit(scalars)})
    if header.kind == "filtered_activations":
        return FilteredActivations(**rows)
    raise KeyError(header.kind)


def load_header(path: Any) -> Header:
    """Return the header; reads the file, since a .pt has no footer to read alone."""
    return load(path.read_bytes(), str(path))[1]
