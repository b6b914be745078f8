"""README commands exist, tables of stages, columns and keys are those of the code, links lead somewhere."""

import re
import shlex
from pathlib import Path

import pyarrow as pa
import pytest
import typer
import yaml

import sae_assets
from sae_assets import settings
from sae_assets.catalog import Dataset, Model, load_catalog
from sae_assets.cli import app
from sae_assets.stages import STAGES

ROOT = Path(sae_assets.__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.M)


def test_make_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    named = {line.split()[1] for line in lines if line.startswith("make ")}
    assert {"demo", "test", "ui"} <= named <= targets


def command_lines() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("sae-assets ")]


@pytest.mark.parametrize("line", command_lines())
def test_commands_in_the_documents_parse(line):
    """Every option and argument shown is one that the command knows."""
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app).commands[words[0]]
    with command.make_context(words[0], words[1:]) as context:
        assert context.command is command


def test_stage_tables_name_every_stage_and_its_partitions():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `<dataset>/(?:<kind>/)?(\w+)` \| ([^|]+) \|", text, re.M)
    levels = {"dataset-chunk": "chunk", "chunk": "model × chunk", "model": "model"}
    assert [(name, by.strip()) for name, by in rows] == [(s.name, levels[s.level]) for s in STAGES.values()]


def test_storage_format_is_what_is_written(written):
    """Columns and types of every kind, as the normative page lists them."""
    text = (ROOT / "docs" / "storage-format.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert set(sections) == set(STAGES)
    for stage, section in sections.items():
        listed = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|$", section, re.M))
        found: dict[str, str] = {}
        for field in written[stage]:
            name = "label:<concept>" if field.name.startswith("label:") else field.name
            found[name] = str(field.type).replace("element", "item")
        assert found == listed, stage


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Schema]:
    """Schema of a file of every stage, from a small run."""
    import pyarrow.parquet as pq
    from typer.testing import CliRunner

    from sae_assets_tests.pipeline.small import make_dataset, write_catalog

    base = tmp_path_factory.mktemp("format")
    catalog = write_catalog(base / "catalog.yaml", make_dataset(base / "data", 12), token_kinds=["patch"])
    result = CliRunner().invoke(app, ["materialize", "-d", "small", "--home", str(base), "--catalog", str(catalog)])
    assert result.exit_code == 0, result.stderr
    return {stage: pq.read_schema(next((base / "store").rglob(f"{stage}/*.parquet"))) for stage in STAGES}


def test_catalog_keys_are_documented():
    text = (ROOT / "docs" / "how-to-own-data.md").read_text(encoding="utf-8")
    for heading, entry in (("data set key", Dataset), ("model key", Model)):
        section = text.split(f"| {heading} |")[1].split("\n\n")[0]
        assert first_cells(section) == list(entry.model_fields), heading


def test_settings_are_documented():
    text = (ROOT / "docs" / "how-to-own-data.md").read_text(encoding="utf-8").split("## Settings")[1]
    known = {value for name, value in vars(settings).items() if name.endswith("_VARIABLE")}
    assert set(first_cells(text)) == known | {"DAGSTER_HOME"}


def test_catalogs_in_the_documents_are_valid(tmp_path):
    """A user who copies an example gets no error."""
    for place, block in enumerate(block for page in PAGES for block in blocks(page, "yaml")):
        path = tmp_path / f"{place}.yaml"
        path.write_text(block)
        assert load_catalog(path)
        assert yaml.safe_load(block)


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "sae_assets" / "demo" / "checkpoints" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    """The library example, as it stands; the reading example needs a demo and is run by the demo's tests."""
    code = next(block for block in blocks(ROOT / "README.md", "python") if "TopKEncoder" in block)
    exec(compile(code, "README.md", "exec"), {})


def test_version_and_metadata_agree():
    import importlib.metadata

    assert importlib.metadata.version("sae-assets") == sae_assets.__version__


def test_documents_name_no_machine():
    for page in PAGES:
        assert not re.search(r"/(root|home/\w+)/", page.read_text(encoding="utf-8")), page
