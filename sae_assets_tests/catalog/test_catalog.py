"""The packaged catalog loads, a user's file is merged over it, and every mistake is reported at once."""

import json
from pathlib import Path

import pytest
import yaml

from sae_assets.catalog import PACKAGED, Model, Sae, load_catalog, match_name
from sae_assets.errors import CatalogError

PRUNING = {"min_active": 2, "max_density": 0.5, "strength_percentile": 50, "target_units": 10}
MODEL = {
    "modality": "image",
    "transformer": {"library": "open_clip", "path": "transformer"},
    "layer": 1,
    "sae": {"format": "clipscope", "path": "sae.pt"},
    "pruning": PRUNING,
}
DATASET = {
    "root": "pictures",
    "layout": "clevr",
    "modality": "image",
    "concepts": ["red", "blue"],
    "models": ["clip-mini"],
}


def user_catalog(folder: Path, content: object) -> Path:
    file = folder / "catalog.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


def mistakes(folder: Path, content: object) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        load_catalog(user_catalog(folder, content))
    return caught.value


def test_packaged_catalog_names_files_that_are_there() -> None:
    """Without a user's file the packaged data set and its models are there, with absolute paths that exist."""
    catalog = load_catalog()
    dataset = catalog.datasets["clevr_mini"]
    assert dataset.root.is_absolute()
    assert (dataset.root / "metadata.csv").is_file()
    for name in dataset.models:
        model = catalog.models[name]
        assert model.sae.path is not None and model.sae.path.is_file()
        assert model.transformer.path is not None and (model.transformer.path / "open_clip_config.json").is_file()


def test_packaged_clip_entry_is_the_published_one() -> None:
    """The model of the published SAE keeps its weights tag, block, hub file and k."""
    clip = load_catalog().models["clip"]
    assert (clip.transformer.name, clip.transformer.pretrained) == ("ViT-L-14", "laion2b_s32b_b82k")
    assert clip.layer == 22
    assert (clip.sae.repo, clip.sae.file) == ("lewington/CLIP-ViT-L-scope", "22_resid/1200013184.pt")
    assert clip.k_stored == 32


@pytest.mark.parametrize("content", ["", "# nothing but a remark\n", "{}"])
def test_empty_user_catalog_changes_nothing(tmp_path: Path, content: str) -> None:
    """An empty file is the packaged catalog."""
    assert load_catalog(user_catalog(tmp_path, content)) == load_catalog()


def test_null_takes_an_entry_out(tmp_path: Path) -> None:
    """Others stay as they are; a model that a data set names cannot go alone."""
    before = load_catalog()
    after = load_catalog(user_catalog(tmp_path, "datasets: {clevr_mini: null}\nmodels: {clip-mini: null}\n"))
    assert set(after.datasets) == set(before.datasets) - {"clevr_mini"}
    assert set(after.models) == set(before.models) - {"clip-mini"}
    assert after.datasets["moods_mini"] == before.datasets["moods_mini"]
    with pytest.raises(CatalogError, match="clip-mini"):
        load_catalog(user_catalog(tmp_path, "models: {clip-mini: null}\n"))


def test_user_fields_are_merged_one_by_one(tmp_path: Path) -> None:
    """Only the fields that the user names change; neighbours of every depth stay."""
    before = load_catalog()
    after = load_catalog(
        user_catalog(
            tmp_path,
            {
                "models": {"clip-mini": {"k_stored": 3, "pruning": {"min_active": 7}, "sae": {"format": "clipscope"}}},
                "datasets": {"clevr_mini": {"chunk_size": 11}},
            },
        )
    )
    old, new = before.models["clip-mini"], after.models["clip-mini"]
    assert new == old.model_copy(update={"k_stored": 3, "pruning": old.pruning.model_copy(update={"min_active": 7})})
    assert after.datasets["clevr_mini"] == before.datasets["clevr_mini"].model_copy(update={"chunk_size": 11})
    assert after.models["clip"] == before.models["clip"]


def test_a_key_may_have_its_former_name(tmp_path: Path) -> None:
    daily = {"datasets": {"clevr_mini": {"backfills": {"verify_cron": "0 5 * * *"}}}}
    assert load_catalog(user_catalog(tmp_path, daily)).datasets["clevr_mini"].backfills.check_cron == "0 5 * * *"


def test_lists_are_replaced_not_joined(tmp_path: Path) -> None:
    """A user's list of concepts is the list, in the user's order."""
    catalog = load_catalog(user_catalog(tmp_path, {"datasets": {"clevr_mini": {"concepts": ["shape::cube"]}}}))
    assert catalog.datasets["clevr_mini"].concepts == ("shape::cube",)


def test_new_entries_stand_beside_the_packaged_ones(tmp_path: Path) -> None:
    """A user's data set and model are added."""
    content = {"models": {"mine": MODEL}, "datasets": {"pictures": {**DATASET, "models": ["mine", "clip-mini"]}}}
    catalog = load_catalog(user_catalog(tmp_path, content))
    assert set(catalog.models) == {*load_catalog().models, "mine"}
    assert set(catalog.datasets) == {"clevr_mini", "moods_mini", "pictures"}
    assert catalog.datasets["pictures"].token_kinds == ("patch", "cls")


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("clip", {"library": "open_clip", "path": "folder"}),
        ("clip-mini", {"library": "open_clip", "name": "ViT-B-32", "pretrained": "openai"}),
    ],
)
def test_transformer_with_another_source_replaces_the_packaged_one(tmp_path: Path, model: str, source: dict) -> None:
    """A path does not meet the packaged name, nor the other way round."""
    transformer = load_catalog(user_catalog(tmp_path, {"models": {model: {"transformer": source}}})).models[model]
    expected = {"name": None, "pretrained": None, "revision": None, "weights": None, "path": None, **source}
    if expected["path"]:
        expected["path"] = tmp_path / "folder"
    assert transformer.transformer.model_dump() == expected


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("clip", {"format": "clipscope", "path": "sae.pt"}),
        ("clip-mini", {"format": "clipscope", "repo": "someone/saes", "file": "a.pt", "revision": "v1"}),
    ],
)
def test_sae_with_another_source_replaces_the_packaged_one(tmp_path: Path, model: str, source: dict) -> None:
    """A local file replaces a hub entry whole, and the other way round."""
    sae = load_catalog(user_catalog(tmp_path, {"models": {model: {"sae": source}}})).models[model].sae
    expected = {"path": None, "repo": None, "file": None, "revision": None, "average_l0": None, **source}
    if expected["path"]:
        expected["path"] = tmp_path / "sae.pt"
    assert sae.model_dump() == expected


@pytest.mark.parametrize("name", ["name", "path", "repo"])
def test_entries_may_be_called_like_a_source_key(tmp_path: Path, name: str) -> None:
    """A data set that happens to be called ``name`` does not replace the packaged data sets."""
    catalog = load_catalog(user_catalog(tmp_path, {"datasets": {name: DATASET}, "models": {name: MODEL}}))
    assert set(catalog.datasets) == {"clevr_mini", "moods_mini", name}
    assert set(catalog.models) == {*load_catalog().models, name}


def test_relative_paths_start_at_the_users_file(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process stands does not matter; absolute paths, ``~`` and ``package:`` keep their meaning."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere / "home"))
    datasets = {
        "relative": {**DATASET, "root": "../pictures"},
        "absolute": {**DATASET, "root": "/srv/pictures"},
        "home": {**DATASET, "root": "~/pictures"},
        "packaged": {**DATASET, "root": "package:demo/data/clevr_mini"},
    }
    weights = {"library": "open_clip", "name": "ViT-L-14", "pretrained": "openai", "weights": "w.bin"}
    catalog = load_catalog(
        user_catalog(tmp_path, {"datasets": datasets, "models": {"mine": {**MODEL, "transformer": weights}}})
    )
    assert catalog.datasets["relative"].root.resolve() == (tmp_path / "../pictures").resolve()
    assert catalog.datasets["absolute"].root == Path("/srv/pictures")
    assert catalog.datasets["home"].root == elsewhere / "home" / "pictures"
    assert catalog.datasets["packaged"].root == PACKAGED.parents[1] / "demo/data/clevr_mini"
    assert catalog.models["mine"].sae.path == tmp_path / "sae.pt"
    assert catalog.models["mine"].transformer.weights == tmp_path / "w.bin"


def test_relative_catalog_path_still_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog given by a relative path resolves its entries before the process moves on."""
    user_catalog(tmp_path, {"datasets": {"pictures": DATASET}})
    monkeypatch.chdir(tmp_path)
    assert load_catalog(Path("catalog.yaml")).datasets["pictures"].root == tmp_path / "pictures"


def test_five_mistakes_are_reported_together(tmp_path: Path) -> None:
    """Range, fixed choice, missing source, unknown model and repeated name: five lines, each with its key path."""
    error = mistakes(
        tmp_path,
        {
            "models": {
                "clip-mini": {"layer": -1, "precision": "float8"},
                "mine": {**MODEL, "transformer": {"library": "open_clip"}},
            },
            "datasets": {
                "pictures": {**DATASET, "models": ["clip-minni"]},
                "clevr_mini": {"token_kinds": ["patch", "patch"]},
            },
        },
    )
    assert str(tmp_path / "catalog.yaml") in str(error)
    assert "5 mistake(s)" in str(error)
    assert len(error.problems) == 5
    by_key = dict(problem.split(": ", 1) for problem in error.problems)
    assert set(by_key) == {
        "models.clip-mini.layer",
        "models.clip-mini.precision",
        "models.mine.transformer",
        "datasets.pictures.models.0",
        "datasets.clevr_mini.token_kinds",
    }
    assert "found -1" in by_key["models.clip-mini.layer"]
    assert "greater than or equal to 0" in by_key["models.clip-mini.layer"]
    assert "found 'float8'" in by_key["models.clip-mini.precision"]
    for allowed in ("float32", "bfloat16", "float16"):
        assert allowed in by_key["models.clip-mini.precision"]
    assert "either `path`" in by_key["models.mine.transformer"]
    known = "clip, clip-mini, gemma, gemma-mini, mine"
    assert f"found 'clip-minni'; known models: {known}" in by_key["datasets.pictures.models.0"]
    assert "named twice: patch" in by_key["datasets.clevr_mini.token_kinds"]
    assert all(problem in str(error) for problem in error.problems)


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"layer": "last"}, "models.clip.layer", "valid integer"),
        ({"layer": True}, "models.clip.layer", "expected no true (which YAML makes of yes"),
        ({"max_dropped_mass": False}, "models.clip.max_dropped_mass", "expected no false"),
        ({"layer": None}, "models.clip", "exactly one of `layer`, `hidden_state` and `module`; found none"),
        ({"module": "visual"}, "models.clip", "found layer and module"),
        ({"modality": "sound"}, "models.clip.modality", "'image'"),
        ({"k_stored": 0}, "models.clip.k_stored", "greater than or equal to 1"),
        ({"pruning": {"max_density": 1.5}}, "models.clip.pruning.max_density", "less than or equal to 1"),
        ({"pruning": {"strength_percentile": "most"}}, "models.clip.pruning.strength_percentile", "valid number"),
        ({"cls": "last"}, "models.clip", "`cls` are for text models"),
        ({"cls": "mean"}, "models.clip.cls", "'pooled', 'last' or 'mean_embedding'"),
        ({"bounds": {"max_fvu": 0}}, "models.clip.bounds.max_fvu", "greater than 0"),
        ({"bounds": {"l0": [9, 3]}}, "models.clip.bounds.l0", "0 <= least <= most, found [9.0, 3.0]"),
        ({"bounds": {"l0": [-1, 3]}}, "models.clip.bounds.l0", "0 <= least <= most"),
        ({"bounds": {"min_coverage": 2}}, "models.clip.bounds.min_coverage", "less than or equal to 1"),
        ({"bounds": {"l1": [1, 3]}}, "models.clip.bounds.l1", "l0"),
        ({"sae": {"format": "zip"}}, "models.clip.sae.format", "'clipscope'"),
        ({"sae": {"format": "clipscope", "repo": "a/b"}}, "models.clip.sae", "`repo` needs `file`"),
        ({"transformer": {"library": "timm"}}, "models.clip.transformer.library", "'open_clip'"),
        (
            {"transformer": {"library": "open_clip", "name": "ViT-L-14"}},
            "models.clip.transformer",
            "random weights are refused",
        ),
        (
            {"transformer": {"library": "open_clip", "path": "x", "pretrained": "openai"}},
            "models.clip.transformer",
            "go with `name` only",
        ),
    ],
)
def test_each_field_says_what_it_allows(tmp_path: Path, change: dict, key: str, said: str) -> None:
    """One wrong field is one problem with its key path and what is allowed."""
    error = mistakes(tmp_path, {"models": {"clip": change}})
    assert len(error.problems) == 1
    assert error.problems[0].startswith(f"{key}: ")
    assert said in error.problems[0]


def test_keys_of_mistakes_are_those_of_the_file(tmp_path: Path) -> None:
    """Of values that may be one thing or another, the kinds that were tried are no part of the key."""
    entry = {"root": "/x", "layout": "table", "modality": "image", "concepts": ["cat"], "models": ["clip"]}
    error = mistakes(tmp_path, {"datasets": {"x": {**entry, "labels": {"cat": "red"}}}})
    assert {problem.split(": ")[0] for problem in error.problems} == {"datasets.x.labels.cat", "datasets.x.labels"}


def test_owner_that_dagster_would_refuse_is_a_mistake_of_the_catalog(tmp_path: Path) -> None:
    """Else nothing could be loaded, and no message would name the key."""
    owners = ["me@example.org", "team:ours", "me"]
    (problem,) = mistakes(tmp_path, {"datasets": {"clevr_mini": {"owners": owners}}}).problems
    assert problem.startswith("datasets.clevr_mini.owners.2: ") and "expected an e-mail address" in problem


@pytest.mark.parametrize(("found", "near"), [("k_store", "k_stored"), ("layers", "layer")])
def test_misspelt_key_names_the_right_one(tmp_path: Path, found: str, near: str) -> None:
    """An unknown key is refused, and the message names the key that was meant."""
    error = mistakes(tmp_path, {"models": {"clip": {found: 1}}})
    assert error.problems[0].startswith(f"models.clip.{found}: ")
    assert f"{near!r}" in error.problems[0] or f"`{near}`" in error.problems[0]


@pytest.mark.parametrize("missing", ["sae", "modality"])
def test_missing_field_is_named(tmp_path: Path, missing: str) -> None:
    """A new model without a required field is refused by the field's key path."""
    error = mistakes(tmp_path, {"models": {"mine": {key: MODEL[key] for key in MODEL if key != missing}}})
    assert error.problems == (f"models.mine.{missing}: field required",)


def test_fixed_pruning_needs_its_rules_and_adaptive_none(tmp_path: Path) -> None:
    """All that are missing are named; without the key pruning is adaptive and keeps as many units as are left."""
    plain = {key: MODEL[key] for key in MODEL if key != "pruning"}
    found = load_catalog(user_catalog(tmp_path, {"models": {"mine": plain}})).models["mine"].pruning
    assert (found.mode, found.target_units) == ("adaptive", None)
    error = mistakes(tmp_path, {"models": {"mine": {**plain, "pruning": {"mode": "fixed", "min_active": 1}}}})
    assert error.problems == ("models.mine.pruning: mode fixed needs max_density, strength_percentile",)


def test_model_without_transformer_needs_precomputed_embeddings(tmp_path: Path) -> None:
    """A model may lack a transformer, but not where a data set gives it no embeddings for each of its token kinds."""
    model = {key: MODEL[key] for key in MODEL if key not in ("transformer", "layer")}
    load_catalog(user_catalog(tmp_path, {"models": {"mine": model}}))
    entry = {**DATASET, "models": ["mine"], "embeddings": {"mine": {"cls": {"path": "cls.pt"}}}}
    error = mistakes(tmp_path, {"models": {"mine": model}, "datasets": {"pictures": entry}})
    assert error.problems == (
        "datasets.pictures.embeddings: model 'mine' has no transformer, so precomputed embeddings are needed for patch",
    )


def test_wrong_entry_does_not_hide_unknown_models(tmp_path: Path) -> None:
    """Mistakes between entries are found although an entry itself is wrong."""
    error = mistakes(tmp_path, {"datasets": {"pictures": {**DATASET, "layout": "zip", "models": ["nobody"]}}})
    assert [problem.split(":")[0] for problem in error.problems] == [
        "datasets.pictures.layout",
        "datasets.pictures.models.0",
    ]


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_names_that_differ_in_case_only_are_refused(tmp_path: Path, kind: str) -> None:
    """Names are matched without case, so two such names would be one."""
    content = {"models": {"Clip": MODEL}} if kind == "models" else {"datasets": {"Clevr_Mini": DATASET}}
    error = mistakes(tmp_path, content)
    assert len(error.problems) == 1
    assert "differs from" in error.problems[0] and "in case only" in error.problems[0]


@pytest.mark.parametrize(
    "content", ["models: [", "models: {a: b: c}", "\tmodels:", "models: !!python/object:os.system {}", "? [a]\n: b"]
)
def test_not_yaml_is_said_with_the_file(tmp_path: Path, content: str) -> None:
    """Broken YAML, and YAML that would build Python objects, is refused with the file's name."""
    error = mistakes(tmp_path, content)
    assert f"{tmp_path / 'catalog.yaml'} is not valid YAML" in str(error)
    assert error.problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("models: {}\ndatasets: {}\nmodels: {}", "line 3, column 1: key 'models' is there twice"),
        ("models:\n  clip: {layer: 3, k_stored: 4, layer: 5}", "line 2, column 33: key 'layer' is there twice"),
        ('models:\n  clip: {module: "a\\0b"}', "line 2, column 18: found a NUL in a text"),
    ],
)
def test_what_yaml_would_take_without_a_word(tmp_path: Path, content: str, said: str) -> None:
    """Of a key that is there twice it takes the last; no path may hold a NUL."""
    (problem,) = mistakes(tmp_path, content).problems
    assert problem == said


def test_json_is_yaml(tmp_path: Path) -> None:
    """JSON writes what UTF-16 takes two numbers for as two; a half alone is no character."""
    entry = {"root": "/x", "layout": "table", "modality": "image", "models": ["clip-mini"], "concepts": ["🐦 𝒙", "猫"]}
    path = tmp_path / "catalog.yaml"
    path.write_text(json.dumps({"datasets": {"x": entry}}))
    assert "\\ud83d" in path.read_text()
    assert load_catalog(path).datasets["x"].concepts == ("🐦 𝒙", "猫")
    (problem,) = mistakes(tmp_path, '{"datasets": {"x": {"concepts": ["\\ud83d"]}}}').problems
    assert problem == "line 1, column 34: found half a character"


def test_list_of_wrong_values_is_not_called_empty(tmp_path: Path) -> None:
    """Each value is named, and nothing that follows from it; a name that is a number is no twin of itself."""
    entry = {"root": "/x", "layout": "table", "modality": "image", "models": ["clip"]}
    error = mistakes(tmp_path, {"datasets": {"x": {**entry, "concepts": [1, False]}, 5: {**entry, "concepts": ["a"]}}})
    assert [problem.split(":")[0] for problem in error.problems] == [
        "datasets.x.concepts.0", "datasets.x.concepts.1", "datasets.5"
    ]  # fmt: skip


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A catalog that is not UTF-8 is refused as one that is no YAML."""
    (tmp_path / "catalog.yaml").write_bytes(b"models: \xff\xfe")
    with pytest.raises(CatalogError, match="not valid YAML"):
        load_catalog(tmp_path / "catalog.yaml")


@pytest.mark.parametrize("content", ["just a sentence", "- models\n- datasets", "42"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    """A list or a sentence is YAML, but no catalog."""
    assert "must be a mapping with `models` and `datasets`" in str(mistakes(tmp_path, content))


@pytest.mark.parametrize("content", [{"models": ["clip"]}, {"datasets": "clevr_mini"}, {"models": None}])
def test_sections_must_be_mappings(tmp_path: Path, content: dict) -> None:
    """A section that is no mapping is a mistake with its key, not a crash."""
    section = next(iter(content))
    assert any(problem.startswith(f"{section}: ") for problem in mistakes(tmp_path, content).problems)


def test_missing_file_says_which_variable_to_set(tmp_path: Path) -> None:
    """A catalog that is not there is named, with the variable that points to it."""
    with pytest.raises(CatalogError, match="SAE_ASSETS_CATALOG") as caught:
        load_catalog(tmp_path / "nowhere.yaml")
    assert str(tmp_path / "nowhere.yaml") in str(caught.value)


def test_folder_instead_of_file_is_a_catalog_error(tmp_path: Path) -> None:
    """A folder given as the catalog is refused by name."""
    with pytest.raises(CatalogError) as caught:
        load_catalog(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_errors_are_value_errors(tmp_path: Path) -> None:
    """``except ValueError`` works."""
    with pytest.raises(ValueError):
        load_catalog(user_catalog(tmp_path, "models: ["))


@pytest.mark.parametrize("name", ["clip-mini", "CLIP-MINI", "Clip-Mini"])
def test_names_are_matched_without_case(name: str) -> None:
    """Case of a name does not matter when looking up."""
    catalog = load_catalog()
    assert match_name(name, catalog.models, "model") == "clip-mini"
    assert match_name("CLEVR_mini", catalog.datasets, "data set") == "clevr_mini"


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    """A misspelt name gets a suggestion and the list of known names."""
    catalog = load_catalog()
    with pytest.raises(CatalogError) as caught:
        match_name("clip-mni", catalog.models, "model")
    known = "clip, clip-mini, gemma, gemma-mini"
    assert str(caught.value) == f"Unknown model 'clip-mni'. Did you mean 'clip-mini'? Known: {known}."
    with pytest.raises(CatalogError, match=r"Unknown data set 'imagenet'\. Known: clevr_mini, moods_mini\."):
        match_name("imagenet", catalog.datasets, "data set")


def test_a_word_of_one_name_alone_suggests_it() -> None:
    """A stranger asks for red, and the concept is called by its group too."""
    concepts = load_catalog().datasets["clevr_mini"].concepts
    with pytest.raises(CatalogError, match=r"'Red'\. Did you mean 'color::red'\?"):
        match_name("Red", concepts, "concept")


def test_suggestion_is_spelt_as_the_name_is() -> None:
    """What is suggested can be copied: it is the name, not its lower-case form."""
    with pytest.raises(CatalogError, match="Did you mean 'MyModel'"):
        match_name("MyModle", ["MyModel"], "model")


def test_nothing_known_is_said() -> None:
    """An empty catalog has no names to suggest."""
    with pytest.raises(CatalogError, match=r"Unknown model 'clip'\. Known: none\."):
        match_name("clip", {}, "model")


UNSAFE = ["a/b", "..", ".", "a|b", "a,b", "a b", "", "a\n", "../a", "a\\b", "-a", "_a", "é", "a:b", "a" * 65]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_names_unsafe_as_keys_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    """Names become folders and partition keys: nothing that a path or a key reads is let in."""
    error = mistakes(tmp_path, {kind: {name: MODEL if kind == "models" else DATASET}})
    assert any(problem.startswith(f"{kind}.{name}: ") for problem in error.problems)


def test_names_with_two_dots_inside_are_refused(tmp_path: Path) -> None:
    """The store refuses ``..`` in any part of an address, so the catalog must refuse it first."""
    error = mistakes(tmp_path, {"models": {"clip..mini": MODEL}})
    assert any(problem.startswith("models.clip..mini: ") for problem in error.problems)


@pytest.mark.parametrize("name", ["a", "clip-mini", "ViT_L.14", "a" * 64])
def test_plain_model_names_are_allowed(tmp_path: Path, name: str) -> None:
    """Letters, digits, dash, underscore and dot inside a name are fine."""
    assert name in load_catalog(user_catalog(tmp_path, {"models": {name: MODEL}})).models


def test_number_as_a_name_is_refused(tmp_path: Path) -> None:
    """YAML reads ``1:`` as a number; that is a mistake with its key, not a crash."""
    error = mistakes(tmp_path, {"models": {1: MODEL}})
    assert any(problem.startswith("models.1: ") for problem in error.problems)


def test_entries_cannot_be_changed() -> None:
    """A loaded catalog is frozen."""
    with pytest.raises(ValueError, match="frozen"):
        load_catalog().datasets["clevr_mini"].chunk_size = 1  # type: ignore[misc]


def test_unknown_model_of_a_data_set_suggests_the_nearest(tmp_path: Path) -> None:
    """At the key where it stands."""
    error = mistakes(tmp_path, {"datasets": {"pictures": {**DATASET, "models": ["Clip_mini"]}}})
    assert [problem for problem in error.problems if "datasets.pictures.models.0: found 'Clip_mini'" in problem]
    assert "Did you mean 'clip-mini'?" in str(error)


def test_yaml_mistakes_name_line_and_column(tmp_path: Path) -> None:
    """Counted from 1, with what was found there."""
    (tmp_path / "catalog.yaml").write_text("datasets:\n  a: {root: x\n  b: 1\n", encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        load_catalog(tmp_path / "catalog.yaml")
    assert caught.value.problems == ("line 3, column 4: expected ',' or '}', but got ':' while parsing a flow mapping",)


def test_entries_know_the_names_they_are_listed_by() -> None:
    """Also copies of them; a name is a key and no field, so it stands in no dump."""
    catalog = load_catalog()
    for entries in (catalog.models, catalog.datasets):
        assert entries
        for name, entry in entries.items():
            assert entry.name == entry.model_copy(update={"description": "other"}).name == name
            assert "name" not in entry.model_dump()


def test_the_key_alone_names_an_entry(tmp_path: Path) -> None:
    """``name`` inside an entry is an unknown key, and no message offers it."""
    content = {"models": {"mine": {**MODEL, "name": "mine"}}, "datasets": {"clevr_mini": {"name": "mine", "xyz": 1}}}
    problems = mistakes(tmp_path, content).problems
    assert [problem.split(": ")[0] for problem in problems] == [
        "models.mine.name", "datasets.clevr_mini.name", "datasets.clevr_mini.xyz",
    ]  # fmt: skip
    for problem in problems:
        assert "unknown key" in problem
        offered = problem.rpartition("known: ")[2].split(", ")
        assert "chunk_size" in offered or "k_stored" in offered
        assert "name" not in offered


def test_an_entry_outside_of_a_catalog_is_named_by_hand() -> None:
    """Asking for a name that nobody gave is an error, and naming leaves the first entry alone."""
    model = Model(modality="text", sae=Sae(format="clipscope", path="x.pt"))
    with pytest.raises(ValueError, match="give it a name by `named`"):
        _ = model.name
    assert model.named("mine").name == "mine"
    with pytest.raises(ValueError, match="`named`"):
        _ = model.name


def test_a_key_of_earlier_versions_changes_nothing() -> None:
    """``n_bootstrap`` of catalogs that were written before it went; any other unknown key is a mistake still."""
    from pydantic import ValidationError

    from sae_assets.catalog.detection import Detection

    assert Detection.model_validate({"n_bootstrap": 5, "seed": 3}) == Detection(seed=3)
    with pytest.raises(ValidationError, match="n_bootstraps"):
        Detection.model_validate({"n_bootstraps": 5})
