"""A finished home read from Python: the figures of its files, and units on the right pixels and characters."""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import sae_assets
from sae_assets.catalog import load_catalog
from sae_assets.errors import CatalogError, MissingChunksError, NotMaterializedError
from sae_assets.ops.intervals import auroc_interval
from sae_assets.pages.pictures import VEIL, VEILED, opacity
from sae_assets.reading import HeatMap, MarkedText, Project, Results
from sae_assets.reading.marked import Token
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.helpers.homes import Homes, Places
from sae_assets_tests.test_import_cost import loaded_by

pytestmark = pytest.mark.slow
CHUNKS = ("0000", "0001")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    return made_home(tmp_path_factory.mktemp("reading"))


@pytest.fixture
def project(made: Places) -> Project:
    return sae_assets.open(made["home"], made["catalog"])


@pytest.fixture
def results(project: Project) -> Results:
    return project["small"]["clip-mini"]["patch"]


def dense(made: Places) -> torch.Tensor:
    """All activations from the artifacts themselves, float32 [n_rows, n_units]."""
    store, parts = ArtifactStore(str(made["home"] / "store")), []
    for chunk in CHUNKS:
        sparse = store.read(Address("small", "sparse_activations", "patch", "clip-mini", chunk)).artifact
        matrix = torch.zeros(sparse.n_rows, sparse.n_units)
        matrix[sparse.row_of_entry(), sparse.unit_ids.long()] = sparse.values
        parts.append(matrix)
    return torch.cat(parts)


def test_what_there_is(project: Project) -> None:
    assert list(project) == ["small"] and list(project["small"]) == ["clip-mini"]
    assert list(project["SMALL"]["clip-mini"]) == ["patch"]
    assert repr(project["small"]["clip-mini"]["patch"]) == "Results(small/patch/clip-mini)"
    assert "<li>small: clip-mini</li>" in project._repr_html_()
    assert "<li>patch</li>" in project["small"]["clip-mini"]._repr_html_()


def test_notebooks_show_results_and_units(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as in the tables, the best examples with where they are; less where less was made."""
    pair = results.best_pairs().to_arrow().to_pylist()[0]
    chosen = "–" if pair["unit_id"] is None else pair["unit_id"]
    assert f"<td>{pair['concept']}</td><td>{chosen}</td>" in results._repr_html_()
    unit = results.unit(int(np.argmax([line["n_active"] for line in results.unit_stats().to_arrow().to_pylist()])))
    monkeypatch.setattr(unit, "pairs", lambda: [{**pair, "unit_id": unit.unit_id}])
    html = unit._repr_html_()
    assert f"<td>{pair['concept']}</td><td>{unit.unit_id}</td>" in html and f"fires on {unit.n_rows:,} rows" in html
    assert html.count("<img ") == 3 and "&lt;" not in html and f"<td>{unit.stats()['mean']:.4g}</td>" in html
    assert all(f"{one.example_id}: {one.value:.4g} at most" in html for one in unit.top_examples(3))
    bare = Results(ArtifactStore(str(tmp_path)), results.entry, results.model, results.token_kind, results.model_entry)
    assert "sae-assets materialize" in bare._repr_html_()


@pytest.mark.parametrize("stage", ["best_pairs", "unit_stats", "row_alignment", "examples", "sparse_activations"])
def test_tables_are_the_files(made: Places, results: Results, stage: str) -> None:
    """Chunks stand behind one another, and pandas' and Polars' tables say the same."""
    folder = made["home"] / "store" / "small" / ("" if stage == "examples" else "patch/clip-mini") / stage
    expected = pl.concat(pl.read_parquet(path) for path in sorted(folder.glob("*.parquet")))
    table = results.table(stage)
    assert table.to_polars().equals(expected) and len(table) == len(expected)
    assert table.to_arrow().column_names == expected.columns
    assert "<table>" in table._repr_html_() and expected.columns[0] in repr(table)


@pytest.mark.xdist_group("small-texts")
def test_intervals_of_auroc_are_those_of_the_stored_activations(text_results: Results) -> None:
    """Of the largest value in every test example, concept by concept; nulls where there is no AUROC."""
    labels = text_results.table("labels").to_polars()
    tests = (labels["split"] == "test").to_numpy().nonzero()[0]
    largest = np.zeros((len(labels), text_results.n_units), np.float32)
    example = np.concatenate([chunk.example for chunk in text_results.activations()])
    np.maximum.at(largest, example, text_results.activations().to_scipy().toarray())
    some = 0
    for line in text_results.best_pairs().to_polars().to_dicts():
        stored = [line[name] for name in ("test_auroc", "test_auroc_low", "test_auroc_high")]
        truth = labels[f"label:{line['concept']}"].to_numpy()[tests].astype(bool)
        if line["unit_id"] is None or truth.all() or not truth.any():
            assert stored == [None] * 3
            continue
        some += 1
        expected = auroc_interval(torch.from_numpy(largest[tests, line["unit_id"]]), torch.from_numpy(truth))
        np.testing.assert_allclose(stored, expected, rtol=1e-12)
    assert some


def test_activations(made: Places, results: Results) -> None:
    """As SciPy's and torch's matrices, and chunk by chunk."""
    expected = dense(made)
    assert torch.equal(torch.from_numpy(results.activations().to_scipy().toarray()), expected)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*beta", category=UserWarning)  # torch says it once per process
        assert torch.equal(results.activations().to_torch().to_dense(), expected)
    assert [chunk.key for chunk in results.activations()] == list(CHUNKS)


def test_files_of_the_other_format_read_the_same(made: Places, tmp_path: Path, results: Results) -> None:
    home = tmp_path / "home"
    shutil.copytree(made["home"] / "store", home / "store")
    store = ArtifactStore(str(home / "store"), "pt")
    for chunk in CHUNKS:
        address = Address("small", "sparse_activations", "patch", "clip-mini", chunk)
        store.write(address, store.read(address))
    other = sae_assets.open(home, made["catalog"])["small"]["clip-mini"]["patch"]
    assert (other.activations().to_scipy() != results.activations().to_scipy()).nnz == 0


def test_a_unit(made: Places, results: Results) -> None:
    """Its rows, its best examples, and its line of the statistics."""
    matrix = dense(made)
    unit_id = int((matrix > 0).sum(0).argmax())
    unit, values = results.unit(unit_id), matrix[:, unit_id].view(12, -1)
    assert unit.n_rows == int((values > 0).sum())
    best = sorted(range(12), key=lambda example: (-float(values[example].max()), example))[:4]
    assert [each.example_index for each in unit.top_examples(4)] == best
    top = unit.top_examples(1)[0]
    assert top.value == float(values.max()) and top.n_rows == int((values[best[0]] > 0).sum())
    for example in (top, top.example_id):
        assert np.array_equal(unit.values(example), values[best[0]].numpy())
    assert np.array_equal(unit.heat_map(top).to_numpy(), unit.heat_map(top.example_id).to_numpy(), equal_nan=True)
    assert unit.stats()["unit_id"] == unit_id
    assert all(line["unit_id"] == unit_id for line in unit.concepts())


def test_rows_of_a_unit_are_those_of_a_scan(made: Places, results: Results) -> None:
    """From activations by unit and without them: rows, examples, parts of them, histogram and neighbours."""
    scanned = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    scanned.__dict__["by_unit"] = None
    assert results.by_unit is not None
    assert np.array_equal(results.by_unit.n_rows(), (dense(made) > 0).sum(0).numpy())
    for unit_id in [int(dense(made).sum(0).argmax()), *range(0, 1024, 97)]:
        unit, other = results.unit(unit_id), scanned.unit(unit_id)
        for ours, theirs in zip(unit._entries, other._entries, strict=True):
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
        assert unit.top_examples(7) == other.top_examples(7) and unit.co_active(9) == other.co_active(9)
        assert all(np.array_equal(a, b) for a, b in zip(unit.histogram(), other.histogram(), strict=True))
        strata, every = unit.stratified_examples(3, 2), unit.top_examples(99)
        assert strata == other.stratified_examples(3, 2) and all(1 <= len(part) <= 2 for part in strata)
        assert len(strata) == min(3, len(every)) and all(one in every for part in strata for one in part)
        values = [one.value for part in strata for one in part]
        assert values == sorted(values) and (not every or values[-1] == every[0].value)


def test_activations_by_unit_of_others_are_not_read(made_home: Homes, tmp_path: Path) -> None:
    """Once a chunk was made anew and is another, its file by unit is not what there is."""
    places = made_home(tmp_path)
    store = ArtifactStore(str(places["home"] / "store"))
    address = Address("small", "sparse_activations", "patch", "clip-mini", "0001")
    item = store.read(address)
    results = sae_assets.open(places["home"], places["catalog"])["small"]["clip-mini"]["patch"]
    assert results.by_unit is not None
    store.write(address, stored(replace(item.artifact, total_mass=item.artifact.total_mass + 1), item.provenance))
    results = sae_assets.open(places["home"], places["catalog"])["small"]["clip-mini"]["patch"]
    assert results.by_unit is None and results.unit(17).n_rows >= 0


def test_a_heat_map_lies_on_its_pixels(made: Places, results: Results) -> None:
    """The packaged model squashes nothing and crops the sides: patches are squares in the middle of the picture."""
    matrix = dense(made)
    unit_id = int((matrix > 0).sum(0).argmax())
    example = results.unit(unit_id).top_examples(1)[0]
    heat_map = results.unit(unit_id).heat_map(example.example_id)
    pixels, values = heat_map.to_numpy(), results.unit(unit_id).values(example.example_id)
    height, width = pixels.shape
    assert (width, height) == heat_map.image.size == (320, 240)
    seen = ~np.isnan(pixels)
    assert seen[:, 40:280].all() and not seen[:, :40].any() and not seen[:, 280:].any()
    side = int(np.sqrt(len(values)))
    middles = (np.arange(side) + 0.5) * 240 / side
    for place, value in enumerate(values):
        assert pixels[int(middles[place // side]), int(40 + middles[place % side])] == value
    shown = np.asarray(heat_map.overlay(), int) - np.asarray(heat_map.image, int)
    assert not shown[pixels == 0].any() and shown[pixels > 0].any()
    under = (np.asarray(heat_map.overlay()) - (1 - VEILED) * np.asarray(heat_map.image))[~seen] / VEILED
    assert np.abs(under[..., None] - np.array(VEIL)).min(-1).max() <= 1  # one of two greys
    assert heat_map._repr_png_().startswith(b"\x89PNG")


def test_opacity_grows_with_the_threshold() -> None:
    assert opacity(np.array([0, 1, 2, 6, 60.0]), 2).tolist() == [0, 0.175, 0.35, 0.75, 0.75]


def test_a_heat_map_of_padding_and_small_patches() -> None:
    """What no patch covers is not a number; an empty box colours nothing."""
    edges = {"left": [0, 0], "top": [0, 2], "right": [3, 3], "bottom": [0, 4]}
    arrays = {name: np.array(values, float) for name, values in edges.items()}
    heat_map = HeatMap(Image.new("RGB", (3, 4)), arrays, np.array([5, 1], np.float32), 1.0)
    assert np.nan_to_num(heat_map.to_numpy(), nan=-1).tolist() == [[-1] * 3, [-1] * 3, [1] * 3, [1] * 3]


def test_marked_text_is_the_text() -> None:
    """Tokens that share a character, gaps, markup and right-to-left letters stay as they are."""
    text = "a <b> שלום 🎈!"
    balloon = text.index("🎈")
    tokens = (
        Token("a", 0, 1, 2.0),
        Token("<b>", 2, 5, 0.5),
        Token("🎈", balloon, balloon + 1, 3.0),
        Token("🎈", balloon, balloon + 1, 3.0),
        Token("!", balloon + 1, balloon + 2, 0.0),
    )
    marked = MarkedText(text, tokens, 1.0)
    assert repr(marked) == "⟦a⟧ <b> שלום ⟦🎈⟧!"
    html = marked._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and html.count("🎈") == 1
    assert html.startswith('<div dir="auto"')
    assert [token.text for token in marked] == ["a", "<b>", "🎈", "🎈", "!"]


def test_errors_say_what_there_is(project: Project, results: Results, made: Places, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="small"):
        project["smal"]
    with pytest.raises(CatalogError, match="units 0 to 1023"):
        results.unit(1024)
    with pytest.raises(CatalogError, match="Nearest: CLEVR"):
        results.unit(0).heat_map("CLEVR_mini_00000x")
    with pytest.raises(CatalogError, match="no tokens of texts"):
        results.unit(0).tokens(results.example_ids[0])
    with pytest.raises(CatalogError, match="look by concept, example or label"):
        results.find(words="red")
    with pytest.raises(NotMaterializedError, match="nothing has been made"):
        sae_assets.open(tmp_path / "empty")
    with pytest.raises(MissingChunksError, match="Run: sae-assets materialize -d small"):
        results.table("no_such_stage")


def test_what_was_not_made_is_told_from_what_there_is_not(made: Places, project: Project) -> None:
    """A model and a token kind that the catalog has and the home does not: the command that makes them is named."""
    catalog = load_catalog(made["catalog"])
    more = {"token_kinds": ("patch", "cls"), "models": ("clip-mini", "clip")}
    catalog.datasets["small"] = catalog.datasets["other"] = catalog.datasets["small"].model_copy(update=more)
    opened = Project(project._store, catalog)
    with pytest.raises(NotMaterializedError, match=r"of data set 'other' in .*store\. Run: .* -d other$"):
        opened["Other"]
    data = opened["small"]
    with pytest.raises(NotMaterializedError, match=r"'clip' in small\. Run: .* -d small -m clip$"):
        data["clip"]
    with pytest.raises(NotMaterializedError, match=r"Run: .* -d small -m clip-mini --token-kind cls$"):
        data["clip-mini"]["cls"]
    with pytest.raises(CatalogError, match="Known: patch"):
        data["clip-mini"]["token"]


def test_neither_torch_nor_dagster_is_needed(made: Places) -> None:
    """Tables, units and heat maps of Parquet files, in a process of its own."""
    unit_id = int((dense(made) > 0).sum(0).argmax())
    statement = (
        f"import sae_assets; results = sae_assets.open({str(made['home'])!r}, {str(made['catalog'])!r})"
        f"['small']['clip-mini']['patch']; results.best_pairs().to_arrow(); unit = results.unit({unit_id}); "
        "unit.heat_map(unit.top_examples(1)[0].example_id).overlay()"
    )
    loaded = loaded_by(statement)
    assert not loaded & {"torch", "dagster", "open_clip", "transformers", "pandas"}
    assert {"pyarrow", "numpy", "PIL"} <= loaded and os.path.exists(made["home"])
