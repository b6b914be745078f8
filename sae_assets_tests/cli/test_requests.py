"""Requests that are wrong: exit code 2, a message that says what was found, and nothing is made."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sae_assets import settings
from sae_assets.cli import app
from sae_assets.commands.requests import parse_options
from sae_assets.commands.session import open_session
from sae_assets.errors import CatalogError, without_class_path
from sae_assets.storage.store import FORMATS
from sae_assets_tests.pipeline.small import make_dataset, write_catalog

pytestmark = pytest.mark.usefixtures("quick_homes")
IMPORT = ["import", "nothere.pt", "--dataset", "small", "--model", "clip-mini", "--token-kind", "patch"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("requests")
    return str(write_catalog(folder / "catalog.yaml", make_dataset(folder / "data", 9)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["materialize", "--tail-fractions", "0.5,2"], "[0.5, 2.0], expected numbers that ascend within (0, 1)"),
        (["materialize", "--tail-fractions", "0.5,0.2"], "ascend"),
        (["materialize", "--tail-fractions", ""], "--tail-fractions: found nothing"),
        (["materialize", "-d", " , "], "--datasets: found nothing"),
        (["materialize", "--device", "gpu"], "--device: found 'gpu', expected auto, cpu, cuda"),
        (["materialize", "--device", "cuda:77"], "'cuda:77' was asked for, but this machine has"),
        (["materialize", "--format", "csv"], "--format: found 'csv', expected one of parquet, pt"),
        (["materialize", "--chunks", "1-3"], "--chunks: found '1-3', expected chunk numbers"),
        (["materialize", "--chunks", "²"], "--chunks: found '²'"),
        (["materialize", "--pruning", "fixd"], "did you mean 'fixed'?"),
        (
            ["materialize", "--min-active", "3"],
            "min_active: of fixed pruning only, but pruning of model 'clip-mini' is adaptive",
        ),
        (["materialize", "--n-folds", "1"], "n_folds: found 1, expected 0 (off) or at least 2"),
        (["show", "small", "clip-mini", "examples", "--chunk", "x"], "--chunk: found 'x'"),
        (["show", "small", "clip-mini", "best_pairs", "--chunk", "0"], "best_pairs is one table over all chunks"),
        (["remove", "small", "--chunks", "1-3"], "--chunks: found '1-3'"),
        (IMPORT, "nothere.pt does not exist; expected a .pt file"),
    ],
)
def test_wrong_request(tmp_path: Path, catalog: str, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, [*arguments, "--home", str(tmp_path), "--catalog", catalog])
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert "Value error" not in result.stderr and not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (settings.DEVICE_VARIABLE, "gpu", "SAE_ASSETS_DEVICE: found 'gpu', expected auto, cpu, cuda or cuda:<number>"),
        (settings.FORMAT_VARIABLE, "csv", "SAE_ASSETS_FORMAT: found 'csv', expected one of parquet, pt"),
        (
            settings.BUDGET_VARIABLE,
            "abc",
            "SAE_ASSETS_MEMORY_BUDGET_MB: found 'abc', expected auto or a whole number of MiB",
        ),
        (settings.BUDGET_VARIABLE, "0", "SAE_ASSETS_MEMORY_BUDGET_MB: found '0'"),
        (settings.HOME_VARIABLE, __file__, f"SAE_ASSETS_HOME: {__file__} is a file, expected a folder"),
    ],
)
def test_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    places = [] if variable == settings.HOME_VARIABLE else ["--home", str(tmp_path)]
    monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(app, ["status", *places])
    assert result.exit_code == 2 and result.stderr.startswith(f"Error: {said}"), result.output


def test_wrong_setting_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.BUDGET_VARIABLE, "abc")
    result = CliRunner().invoke(app, ["status", "--home", str(tmp_path), "--json"])
    assert result.exit_code == 2 and "found 'abc'" in json.loads(result.stderr)["error"]


def test_a_catalog_that_is_named_counts_whatever_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken catalog in the environment breaks the commands that take it, and no others."""
    good = tmp_path / "good.yaml"
    good.write_text("{}")
    monkeypatch.setenv(settings.CATALOG_VARIABLE, str(tmp_path / "no-such-folder" / "broken.yaml"))
    result = CliRunner().invoke(app, ["status", "--home", str(tmp_path), "--catalog", str(good)])
    assert result.exit_code == 0, result.stderr
    with open_session(tmp_path, use_user_catalog=False) as session:  # as `demo` opens it
        session.runner({})
    result = CliRunner().invoke(app, ["status", "--home", str(tmp_path)])
    assert result.exit_code == 2 and "broken.yaml does not exist" in result.stderr


def test_home_that_is_a_file() -> None:
    result = CliRunner().invoke(app, ["status", "--home", __file__])
    assert result.exit_code == 2 and f"--home: {__file__} is a file, expected a folder" in result.stderr


def test_all_wrong_options_are_said_at_once() -> None:
    with pytest.raises(CatalogError) as caught:
        parse_options(precision="fp8", n_folds=1, pruning="best", tail_fractions=["7"])
    assert len(caught.value.problems) == 4


def test_formats_are_those_of_the_store() -> None:
    assert set(settings.FORMATS) == set(FORMATS)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a 0001 failed (run 1): sae_assets.errors.DatasetError: no", "a 0001 failed (run 1): no"),
        ("sae_assets.orchestration.runs.RunFailedError: x: ValueError: y", "x: ValueError: y"),
        ("No module named sae_assets.nothing", "No module named sae_assets.nothing"),
    ],
)
def test_our_class_paths_are_no_part_of_a_message(message: str, shown: str) -> None:
    assert without_class_path(message) == shown
