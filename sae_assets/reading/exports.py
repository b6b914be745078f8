"""Results for other tools: sparse matrices, a latent cache of Delphi, JSON of Neuronpedia, and tables of best pairs.

Each is written in the form that the other tool reads itself; what it has no place for is left out.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from sae_assets.datasets import TextReader
from sae_assets.errors import CatalogError, MismatchError, MissingChunksError
from sae_assets.reading.pair_table import latex_table, markdown_table
from sae_assets.reading.results import Results
from sae_assets.reading.unit import TopExample, Unit
from sae_assets.rows.texts import open_tokens
from sae_assets.storage.atomic import write_atomically

if TYPE_CHECKING:
    import numpy as np

WINDOW = 32  # tokens: what Delphi cuts its contexts into, so a context is a multiple of it
BARS = 50  # of a histogram, as SAEDashboard draws
EMPTY = (  # what needs the SAE's decoder or the model's unembedding
    *("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
    *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
    *("correlated_features_indices", "correlated_features_l1", "correlated_features_pearson"),
    *("neg_str", "neg_values", "pos_str", "pos_values"),
    *("logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist", "vector"),
)
FORMULA = tuple("=+-@＝＋－＠")  # signs that one begins with
TOP, PER_STRATUM, STRATA = 20, 5, 5  # examples of a unit in the JSON of Neuronpedia


def export_csr(results: Results, path: Path) -> dict[str, Any]:
    """Write all activations as ``scipy.sparse.load_npz`` reads them, float32 [n_rows, n_units].

    Beside the matrix the file holds ``example_index`` and ``position`` of each row, int32, and ``example_ids``.

    Raises:
        MissingChunksError: no activations were made.
    """
    import numpy as np

    matrix = results.activations().to_scipy()
    rows = [(chunk.example, chunk.position) for chunk in results.activations()]
    example, position = (np.concatenate(column) for column in zip(*rows, strict=True))
    arrays = {name: getattr(matrix, name) for name in ("indptr", "indices", "data")}
    arrays |= {"format": np.array(b"csr"), "shape": np.array(matrix.shape), "_is_array": np.array(True)}
    arrays |= {"example_index": example, "position": position}
    arrays["example_ids"] = np.array(results.example_ids, dtype=np.str_)
    write_atomically(UPath(path), lambda file: np.savez_compressed(file, **arrays))
    return {"rows": matrix.shape[0], "units": matrix.shape[1], "entries": int(matrix.nnz)}


def export_delphi(results: Results, folder: Path, n_splits: int = 5) -> dict[str, Any]:
    """Write the activations of texts as a latent cache of Delphi (``delphi.latents.LatentDataset(raw_dir=folder)``).

    ``<hook point>/<first>_<last>.safetensors`` with ``locations`` [n, 3] (text, position, unit − first),
    ``activations`` float32, and ``tokens`` int64 [n_texts, length] of all texts, padded to a multiple of 32.

    Raises:
        CatalogError: its rows are no tokens of texts; MissingChunksError: chunks that were not made.
        MismatchError: texts or a tokenizer that give other tokens than the activations are of.
    """
    import numpy as np
    from safetensors.numpy import save

    tokens, starts = _tokens(results)
    name = _hook_name(results)
    target = folder / name
    bounds = np.linspace(0, results.n_units, n_splits + 1).astype(int)
    entries = 0
    for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        parts = list(_located(results, first, stop, starts))
        locations, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((locations[:, 2], locations[:, 1], locations[:, 0]))
        small = max(locations.max(initial=0), 0) < 2**16
        tensors = {
            "locations": locations[order].astype(np.uint16 if small else np.uint32),
            "activations": values[order],
            "tokens": tokens,
        }
        write_atomically(UPath(target / f"{first}_{stop - 1}.safetensors"), save(tensors))
        entries += len(values)
    model = results.model_entry.transformer
    config = {
        "dataset_repo": results.entry.name, "dataset_split": "all", "dataset_name": "", "dataset_column": "text",
        "batch_size": 1, "cache_ctx_len": tokens.shape[1], "n_tokens": int(tokens.size), "n_splits": n_splits,
        # Of a local model its name alone: the file travels, and Delphi takes another tokenizer as an argument.
        "model_name": "" if model is None else model.path.name if model.path is not None else model.label,
    }  # fmt: skip
    write_atomically(UPath(target / "config.json"), json.dumps(config, indent=4).encode())
    return {"module": name, "texts": len(tokens), "context": tokens.shape[1], "entries": entries}


def _located(
    results: Results, first: int, stop: int, starts: "np.ndarray"
) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    """Return locations int64 [n, 3] and values of the units ``first`` to ``stop``, chunk by chunk."""
    import numpy as np

    for chunk in results.activations():
        mine = np.flatnonzero((chunk.units >= first) & (chunk.units < stop))
        row = chunk.row_of_entry[mine]
        example = chunk.example[row].astype(np.int64)
        index = chunk.position[row] + starts[example]
        yield np.stack([example, index, chunk.units[mine] - first], 1), chunk.values[mine]


def _tokens(results: Results) -> "tuple[np.ndarray, np.ndarray]":
    """Return ids of all texts, int64 [n_texts, length], and the place of each text's first own token, int64
    [n_texts]."""
    import numpy as np

    reader = results.reader
    if results.token_kind != "token" or not isinstance(reader, TextReader) or results.model_entry.transformer is None:
        raise CatalogError(f"{results}: Delphi reads tokens of texts that a transformer's tokenizer makes.")
    if len(results.activations()) < len(results.chunks):
        making = results.address("row_locations").making
        raise MissingChunksError(f"{results}: not all chunks were made. Run: {making}")
    tokenizer = open_tokens(results.model_entry)
    texts = [tokenizer.encode(reader.text(example)) for example in results.example_ids]
    counts = np.zeros(len(texts), np.int64)
    for chunk in results.activations():
        np.add.at(counts, chunk.example, 1)
    if (wrong := np.flatnonzero(counts != [len(text.spans) for text in texts])).size:
        raise MismatchError(
            f"{results}: {results.example_ids[wrong[0]]!r} has {counts[wrong[0]]} rows, "
            f"but its text gives other tokens now."
        )
    longest = max(len(text.ids) for text in texts)
    tokens = np.full((len(texts), -(-longest // WINDOW) * WINDOW), getattr(tokenizer, "pad_id", 0), np.int64)
    for index, text in enumerate(texts):
        tokens[index, : len(text.ids)] = text.ids
    return tokens, np.array([text.first for text in texts], np.int64)


def _hook_name(results: Results) -> str:
    """Return the hook point as a name of a folder: nothing of it leads elsewhere."""
    model = results.model_entry
    named = model.module or (f"layers.{model.layer}" if model.layer is not None else f"hidden.{model.hidden_state}")
    return re.sub(r"[^\w.-]", "_", named).strip(".") or "module"


def export_neuronpedia(results: Results, path: Path, units: Sequence[int] | None = None) -> dict[str, Any]:
    """Write units of texts as a batch of SAEDashboard (``NeuronpediaDashboardBatch``), which Neuronpedia takes.

    Of each unit density, histogram, its top examples and some of each fifth of those it fires on. What needs the SAE's
    decoder or the model's unembedding (logits, correlations with neurons) is empty.

    Args:
        units: default: those of the best pairs.

    Raises:
        CatalogError: its rows are no tokens of texts, or there is no such unit.
    """
    if results.token_kind != "token" or not isinstance(results.reader, TextReader):
        raise CatalogError(f"{results}: Neuronpedia shows tokens of texts.")
    if units is None:
        chosen = {line["unit_id"] for line in results.best_pairs().to_arrow().to_pylist()}
        units = sorted(unit for unit in chosen if unit is not None)
    content = {
        "model_id": results.model,
        "layer": results.model_entry.layer or results.model_entry.hidden_state or 0,
        "sae_set": results.model_entry.sae.format,
        "sae_id_suffix": None,
        "features": [_feature(results.unit(unit)) for unit in units],
    }
    write_atomically(UPath(path), json.dumps(content, ensure_ascii=False, allow_nan=False).encode())
    return {"units": len(units)}


def _feature(unit: Unit) -> dict[str, Any]:
    counts, edges = unit.histogram(BARS)
    top = unit.top_examples(TOP)
    strata = unit.stratified_examples(STRATA, PER_STRATUM) if top else []
    largest = top[0].value if top else 0.0
    activations = [_activation(unit, one, (-1.0, largest, -1.0)) for one in top]
    for part in strata:
        bounds = (part[0].value, part[-1].value, 1 / len(strata))
        activations += [_activation(unit, one, bounds) for one in part]
    return {
        **{name: [] for name in EMPTY},
        "feature_index": unit.unit_id,
        "frac_nonzero": unit.n_rows / max(unit.results.n_rows, 1),
        "freq_hist_data_bar_values": [round(float(a + b) / 2, 5) for a, b in pairwise(edges)],
        "freq_hist_data_bar_heights": [float(count) for count in counts],
        "n_prompts_total": len(unit.results.example_ids),
        "n_tokens_in_prompt": max((len(one["tokens"]) for one in activations), default=0),
        "dataset": unit.results.entry.name,
        "activations": activations,
    }


def _activation(unit: Unit, one: TopExample, bounds: tuple[float, float, float]) -> dict[str, Any]:
    tokens = list(unit.tokens(one.example_id))
    values = [round(token.value, 5) for token in tokens]
    return {
        "bin_min": round(bounds[0], 5),
        "bin_max": round(bounds[1], 5),
        "bin_contains": bounds[2],
        "tokens": [token.text for token in tokens],
        "values": values,
        "qualifying_token_index": values.index(max(values)),
    }


def export_csv(results: Results, path: Path) -> dict[str, Any]:
    """Write all columns of ``best_pairs`` with all digits; what does not exist is empty, and no name a formula."""
    lines = [{**line, "concept": unformulated(line["concept"])} for line in results.best_pairs().to_arrow().to_pylist()]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(UPath(path), buffer.getvalue().encode())
    return {"concepts": len(lines)}


def unformulated(name: str) -> str:
    """Return a name that spreadsheets would take for a formula with a ``'`` in front, which keeps them from it."""
    return f"'{name}" if name.lstrip()[:1] in FORMULA else name


def _as_document(
    table: "Callable[[Sequence[Mapping[str, Any]]], list[str]]",
) -> "Callable[[Results, Path], dict[str, Any]]":
    def export(results: Results, path: Path) -> dict[str, Any]:
        lines = results.best_pairs().to_arrow().to_pylist()
        write_atomically(UPath(path), ("\n".join(table(lines)) + "\n").encode())
        return {"concepts": len(lines)}

    return export


export_markdown, export_latex = _as_document(markdown_table), _as_document(latex_table)
FORMATS: dict[str, tuple[Callable[..., dict[str, Any]], str]] = {
    "csr": (export_csr, "all activations, one .npz that scipy.sparse.load_npz reads"),
    "delphi": (export_delphi, "all activations of texts, a folder that Delphi's LatentDataset reads"),
    "neuronpedia": (export_neuronpedia, "units of texts, JSON of SAEDashboard and Neuronpedia"),
    "csv": (export_csv, "best pairs with all columns and digits"),
    "markdown": (export_markdown, "best pairs as a table"),
    "latex": (export_latex, "best pairs as a table with booktabs"),
}
