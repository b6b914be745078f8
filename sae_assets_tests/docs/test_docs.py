"""What the documents show: commands parse, catalogs load, links lead somewhere, tables are those of the code.

The own-data walk-through and the tables of SAE formats are carried out. Prose is not tested.
"""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import typer
import yaml
from safetensors.torch import save_file

import sae_assets
import sae_assets.ops
from sae_assets.catalog import load_catalog
from sae_assets.catalog.models import Sae
from sae_assets.catalog.registry import formats
from sae_assets.cli import app
from sae_assets.errors import CheckpointError
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.switches import SWITCHES
from sae_assets.pipeline.stages import STAGES
from sae_assets.saes import open_sae
from sae_assets.saes.formats.saelens import BEFORE_6
from sae_assets.storage import html
from sae_assets_tests.pipeline.small import WITH_CONTROLS
from tools import docs_tables

ROOT = Path(sae_assets.__file__).parent.parent
PAGES = docs_tables.PAGES


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def table_after(page: str, heading: str) -> str:
    """The rows of the one table whose first column is called so."""
    (found,) = re.findall(
        rf"^\| {re.escape(heading)} \|.*\n((?:\|.*\n)+)", (ROOT / "docs" / page).read_text("utf-8"), re.M
    )
    return found


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    level = re.search(rf"^(#+) {re.escape(heading)}$", text, re.M)
    assert level, f"{page} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level[1])}}} ", text[level.end() :], flags=re.M)[0]


def test_the_readme_begins_with_what_it_is_and_how_it_runs():
    """Whoever looks at seven lines knows both."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("**Which units of a sparse autoencoder") and lines[6].startswith("make demo")


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
        assert context.command is getattr(command, "declared", command)


def test_tables_made_from_the_code_are_those_of_now():
    """``python -m tools.docs_tables`` would change nothing, and every table that it makes stands somewhere."""
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    assert [page.name for page, text in zip(PAGES, pages, strict=True) if docs_tables.filled(text) != text] == []
    assert {match[2] for text in pages for match in docs_tables.MARKED.finditer(text)} == set(docs_tables.TABLES)


def test_a_table_that_is_another_is_written_anew():
    """Only what stands between the marks."""
    text = "before\n<!-- table: formats -->\n| old |\n<!-- end -->\nafter\n"
    assert (
        docs_tables.filled(text)
        == f"before\n<!-- table: formats -->\n{docs_tables.table('formats')}<!-- end -->\nafter\n"
    )


def test_every_switch_has_its_line():
    """And every line its switch: the table is of what Dagster is given."""
    defs = build_definitions(load_catalog())
    given = {one.name for one in [*(defs.sensors or ()), *(defs.schedules or ())]}
    assert {switch.name(dataset) for switch in SWITCHES for dataset in load_catalog().datasets} == given


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("formats")
def test_storage_format_is_what_is_written(written):
    """Columns and types of every kind, as the normative page lists them."""
    for stage in written:
        _, *rows = docs_tables.columns_of(stage)
        columns: dict[str, str] = {}
        for field in written[stage]:
            name = "label:<concept>" if field.name.startswith("label:") else field.name
            columns[f"`{name}`"] = str(field.type).replace("element", "item")
        assert columns == {name: kind for name, kind, _ in rows}, stage


def run(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, made_home: Any) -> Path:
    """A folder with a home in which everything was made, controls too, and what a second run prints."""
    base = tmp_path_factory.mktemp("format")
    made_home(base, **WITH_CONTROLS, detection={"min_support": 1})  # as other tests have it
    printed = run("materialize", "-d", "small", "--json", *places(base))
    (base / "materialize.json").write_text(printed)
    return base


def places(home: Path) -> list[str]:
    return ["--home", str(home / "home"), "--catalog", str(home / "catalog.yaml")]


@pytest.fixture(scope="module")
def written(home: Path) -> dict[str, pa.Schema]:
    """Schema of a file of every stage; that of pages is HTML, and has none."""
    import pyarrow.parquet as pq

    store, tables = home / "home" / "store", [stage for stage in STAGES if stage not in html.KINDS]
    return {stage: pq.read_schema(next(store.rglob(f"{stage}/*.parquet"))) for stage in tables}


def test_catalogs_in_the_documents_are_valid(tmp_path):
    """A user who copies an example gets no error."""
    for place, block in enumerate(block for page in PAGES for block in blocks(page, "yaml")):
        path = tmp_path / f"{place}.yaml"
        path.write_text(block)
        assert load_catalog(path)
        assert yaml.safe_load(block)


def anchors(page: Path) -> set[str]:
    """Names that a page's headings have as link targets."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "sae_assets" / "demo" / "checkpoints" / "README.md"]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                file = page.parent / target if target else page
                assert file.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in anchors(file), f"{page.name}: {target}#{anchor}"


def documented_keys() -> dict[str, set[str]]:
    """By command the keys of its JSON that the page names."""
    return {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1].split(": by ")[0]))
        for row in cells(table_after("commands.md", "command | keys"))
    }


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("formats")
def test_json_has_the_documented_keys(home):
    """At the top, or of the one data set; `demo` prints the figures that `materialize` has, `import` is its class."""
    from dataclasses import fields

    from sae_assets.commands.importing import Imported

    documented = documented_keys()
    found = {
        "materialize": json.loads((home / "materialize.json").read_text()),
        "materialize --dry-run": json.loads(run("materialize", "-d", "small", "--dry-run", "--json", *places(home))),
        "status": json.loads(run("status", "-d", "small", "--json", *places(home)))["small"],
        "show": json.loads(run("show", "small", "clip-mini", "best_pairs", "--json", *places(home))),
        "unit": json.loads(run("unit", "small", "clip-mini", "0", "--json", *places(home))),
        "protocol": json.loads(run("protocol", "netdissect", "small", "clip-mini", "--json", *places(home))),
        "verify": json.loads(run("verify", "--json", *places(home))),
        "inspect": {
            "error": "",
            **json.loads(run("inspect", "small", "--files", "--models", "--json", *places(home)))["small"],
        },
        "register": json.loads(run("register", "-d", "small", "--json", *places(home)))["small"],
        "remove": json.loads(run("remove", "small", "--all", "--json", *places(home))),
        "import": {field.name for field in fields(Imported)},
    }
    elsewhere = {"compare", "demo", "detect", "export", "export-detector", "find"}  # by the tests of these
    assert set(found) == set(documented) - elsewhere
    for command, keys in found.items():
        assert documented[command] <= set(keys), command
    assert list(found["materialize"]["figures"]) == ["small/patch/clip-mini"]


def make_birds(base: Path) -> None:
    """The folder, the model and the SAE that the section names, but small and under ``base``."""
    from PIL import Image, ImageDraw

    from sae_assets_tests.datasets.layouts import write_csv
    from sae_assets_tests.rows.tiny_transformers import WIDTH, write_transformer
    from sae_assets_tests.saes import published_folders as saes

    root = base / "data" / "birds"
    rows = []
    for place in range(36):
        wing, beak = place % 2, (place // 2) % 2
        image, mask = Image.new("RGB", (60, 40), (place * 5, 80, 120)), Image.new("L", (60, 40), 0)
        for canvas, inks in ((ImageDraw.Draw(image), ("gold", "lime")), (ImageDraw.Draw(mask), (255, 255))):
            if wing:
                canvas.rectangle((8, 6, 24, 26), fill=inks[0])
            if beak:
                canvas.ellipse((30, 10, 50, 30), fill=inks[1])
        for folder, picture in (("images", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture.save(root / folder / f"b{place:02d}.{'jpg' if folder == 'images' else 'png'}")
        split = ("train", "cal", "test")[(place // 4) % 3]
        rows.append({"image": f"images/b{place:02d}.jpg", "split": split, "wing": wing, "beak": beak})
    write_csv(root / "metadata.csv", rows)
    write_transformer(base / "models" / "dinov2-base", "dinov2")
    saes.write_saelens(
        base / "models" / "dinov2-sae" / "blocks.1",
        saes.weights(WIDTH, 64, threshold=False),
        saes.saelens_config("topk", k=8, d_in=WIDTH, d_sae=64),
    )


@pytest.mark.long
@pytest.mark.usefixtures("quick_homes")
def test_from_a_folder_to_figures(tmp_path, monkeypatch):
    """The first section of the own-data page, as it stands, on a small folder and small checkpoints at its paths."""
    make_birds(tmp_path)
    text = section("how-to-own-data.md", "From a folder to figures")
    for path in re.findall(r"^(/[\w/.-]+)", blocks_in(text, "")[0], re.M):
        assert (tmp_path / path.lstrip("/").replace("blocks.10", "blocks.1").replace("001", "b00")).exists(), path
    (catalog,) = blocks_in(text, "yaml")
    catalog = catalog.replace("layer: 10 ", "layer: 1 ").replace("blocks.10", "blocks.1")
    (tmp_path / "birds.yaml").write_text(re.sub(r"/(data|models)/", rf"{tmp_path}/\1/", catalog))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAE_ASSETS_HOME", str(tmp_path / "home"))
    lines = [line for block in blocks_in(text, "bash") for line in block.splitlines()]
    printed = [run(*shlex.split(line)[1:]) for line in lines if not line.startswith("sae-assets ui")]
    assert len(printed) == len(lines) - 1
    assert "concepts located" in printed[0]
    assert {"birds/patch/dino", "birds/cls/dino"} <= set(re.findall(r"birds/\w+/dino", printed[1]))


def blocks_in(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.slow
def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    """The library example, as it stands; the reading example needs a demo and is run by the demo's tests."""
    code = next(block for block in blocks(ROOT / "README.md", "python") if "TopKEncoder" in block)
    exec(compile(code, "README.md", "exec"), {})


def test_version_and_metadata_agree():
    import importlib.metadata

    assert importlib.metadata.version("sae-assets") == sae_assets.__version__


def test_bounds_that_leave_out_known_faults_hold():
    """Those that SECURITY.md names are in pyproject.toml, and the tested versions are none of those left out."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    said = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (ROOT / "SECURITY.md").read_text("utf-8"), re.M)
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    needed = {one.name: one.specifier for one in map(Requirement, lines)}
    pinned = dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split())
    assert len(said) == 3
    for name, least in said:
        assert str(needed[name]) == f">={least}" and Version(pinned[name]) >= Version(least), name


def test_documents_name_no_machine():
    for page in PAGES:
        assert not re.search(r"/(root|home/\w+)/", page.read_text(encoding="utf-8")), page


# SAE formats: a checkpoint built from the page's tables is read, any other one is refused. Whether what is read is
# computed right is tested in sae_assets_tests/saes.
SAE_PAGE = "sae-formats.md"
D, N, K = 6, 20, 4
NUMBERS = {"k": K, "n_features": N, "d_in": D, "d_sae": N, "width": N, "num_latents": N, "expansion_factor": 2}
HEADINGS = {
    "CLIP-Scope: `clipscope`": "clipscope",
    "Gemma Scope 1: `gemmascope`": "gemmascope",
    "Gemma Scope 2: `gemmascope`": "gemmascope",
    "SAELens 6: `saelens`": "saelens",
    "sparsify: `sparsify`": "sparsify",
}


class DocumentedFormat:
    """One section: tensors with shapes and dtypes, keys with the values that are accepted."""

    def __init__(self, heading: str):
        self.format = HEADINGS[heading]
        self.text = section(SAE_PAGE, heading)
        tables = [
            [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
            for table in re.findall(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", self.text, re.M)
        ]
        self.tensors = {row[0].strip("`"): (row[1], row[2].split(", ")) for row in tables[0]}
        self.keys = {row[0].strip("`"): (row[1], row[2]) for row in (tables[1] if len(tables) > 1 else [])}

    def literals(self, key: str) -> list[Any]:
        """Accepted values that the table spells out."""
        accepted = self.keys[key][0]
        found = [] if accepted.startswith(("integer", "the same")) else re.findall(r"`([^`]+)`", accepted)
        return [json.loads(value) for value in found if not value.endswith("_in")]

    def config(self, architecture: str | None = None) -> dict[str, Any]:
        """Every key, at its first accepted value."""
        made: dict[str, Any] = {}
        for key, (accepted, _) in self.keys.items():
            if "`topk` only" in accepted and architecture != "topk":
                continue
            made[key] = NUMBERS[key] if accepted.startswith("integer") else next(iter(self.literals(key)), None)
        made |= {"hf_hook_point_out": made["hf_hook_point_in"]} if "hf_hook_point_out" in made else {}
        made |= {"expansion_factor": 32} if "expansion_factor" in made else {}  # num_latents goes before it
        return made | ({"architecture": architecture} if architecture else {})

    def weights(self, architecture: str | None = None) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        found = {}
        for name, (shape, _) in self.tensors.items():
            if "`jumprelu` only" in shape and architecture != "jumprelu":
                continue
            lengths = [{"d": D, "n": N}[part] for part in re.findall(r"\b[dn]\b", shape.split("]")[0])]
            found[name] = torch.randn(lengths, generator=generator)
        return found

    def architectures(self) -> list[str | None]:
        return self.literals("architecture") if self.format == "saelens" else [None]


def open_documented(page: DocumentedFormat, folder: Path, config: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """Write the files that the section names and open them through a catalog entry."""
    folder.mkdir(parents=True)
    files = re.findall(r"`([\w.]+\.(?:json|safetensors|npz))`", page.text.strip().splitlines()[0])
    path = folder
    if page.format == "clipscope":
        path = folder / "any.pt"
        torch.save({**config, "model_state_dict": tensors}, path)
    elif files == [formats()[page.format].single]:
        np.savez(folder / files[0], **{name: np.asarray(tensor) for name, tensor in tensors.items()})
    else:
        assert tuple(files) == formats()[page.format].files
        (folder / files[0]).write_text(json.dumps(config))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / files[1])
    return open_sae(Sae(format=page.format, path=path))


@pytest.fixture(params=HEADINGS)
def page(request: pytest.FixtureRequest) -> DocumentedFormat:
    return DocumentedFormat(request.param)


def test_every_format_has_its_section():
    assert set(HEADINGS.values()) == set(formats())
    for heading in HEADINGS:
        assert DocumentedFormat(heading).tensors, heading


def test_what_the_tables_say_is_read(page, tmp_path):
    """Also with every documented dtype, every value that is spelt out, and without the keys that may be missing."""
    for architecture in page.architectures():
        config, tensors = page.config(architecture), page.weights(architecture)
        found = open_documented(page, tmp_path / f"{architecture}", config, tensors)
        assert (found.d_model, found.n_units) == (D, N)
        few = {key: value for key, value in config.items() if page.keys[key][1] == "refused"}
        if page.format == "sparsify":
            few.pop("num_latents", None)
        assert open_documented(page, tmp_path / f"{architecture}-few", few, tensors).n_units == N
        for key in config:
            for place, value in enumerate(page.literals(key) if key != "architecture" else []):
                changed = config | {key: value}
                changed |= {"hf_hook_point_out": value} if key == "hf_hook_point_in" else {}
                assert open_documented(page, tmp_path / f"{architecture}-{key}-{place}", changed, tensors).n_units == N
        for name in tensors:
            for dtype in page.tensors[name][1]:
                cast = tensors | {name: tensors[name].to(getattr(torch, dtype))}
                assert open_documented(page, tmp_path / f"{architecture}-{name}-{dtype}", config, cast).d_model == D


def test_what_the_tables_do_not_say_is_refused(page, tmp_path):
    for architecture in page.architectures():
        config, tensors = page.config(architecture), page.weights(architecture)
        base = tmp_path / f"{architecture}"
        for name, tensor in tensors.items():
            with pytest.raises(CheckpointError, match=re.escape(name)):
                open_documented(
                    page, base / f"without-{name}", config, {key: tensors[key] for key in tensors if key != name}
                )
            with pytest.raises(CheckpointError, match=f"{re.escape(name)} has dtype"):
                open_documented(page, base / f"float64-{name}", config, tensors | {name: tensor.double()})
            with pytest.raises(CheckpointError, match="not finite"):
                open_documented(page, base / f"nan-{name}", config, tensors | {name: tensor * torch.nan})
            if not page.tensors[name][1][1:]:
                with pytest.raises(CheckpointError, match=f"{re.escape(name)} has dtype"):
                    open_documented(page, base / f"half-{name}", config, tensors | {name: tensor.half()})
        if page.format == "clipscope":
            assert (
                open_documented(page, base / "more", config | {"note": 1}, tensors | {"more": torch.zeros(1)}).n_units
                == N
            )
        else:
            with pytest.raises(CheckpointError, match="more"):
                open_documented(page, base / "more", config, tensors | {"more": torch.zeros(1)})
        for key, (accepted, missing) in page.keys.items():
            if key not in config:
                continue
            if missing == "refused":
                with pytest.raises(CheckpointError, match=key):
                    open_documented(page, base / f"no-{key}", {k: v for k, v in config.items() if k != key}, tensors)
            if key == "expansion_factor":  # compared only where num_latents does not speak
                config_less = {k: v for k, v in config.items() if k != "num_latents"}
                with pytest.raises(CheckpointError, match="asks for"):
                    open_documented(page, base / f"other-{key}", config_less, tensors)
                continue
            other = NUMBERS[key] + 100 if accepted.startswith("integer") else "something else"
            with pytest.raises(CheckpointError):
                open_documented(page, base / f"other-{key}", config | {key: other}, tensors)


def test_older_saelens_keys_are_named(tmp_path):
    page = DocumentedFormat("SAELens 6: `saelens`")
    with pytest.raises(CheckpointError, match="before SAELens 6"):
        open_documented(page, tmp_path / "old", page.config("standard") | {BEFORE_6[0]: 1}, page.weights("standard"))


def test_average_l0_as_documented(tmp_path):
    """The nearest to 100, the sparser of two as near, without a name as with `canonical`."""
    page = DocumentedFormat("Gemma Scope 1: `gemmascope`")
    for number in (50, 95, 105):
        open_documented(page, tmp_path / "width_16k" / f"average_l0_{number}", {}, page.weights())
    for wanted, chosen in ((None, 95), ("canonical", 95), (50, 50)):
        found = open_sae(Sae(format="gemmascope", path=tmp_path / "width_16k", average_l0=wanted))
        assert found.name.endswith(f"average_l0_{chosen}")
    with pytest.raises(CheckpointError, match="there are 50, 95, 105"):
        open_sae(Sae(format="gemmascope", path=tmp_path / "width_16k", average_l0=100))
    with pytest.raises(CheckpointError, match="already"):
        open_sae(Sae(format="gemmascope", path=tmp_path / "width_16k" / "average_l0_50", average_l0=95))


FOREIGN = {  # of the repositories whose numbers are given
    "src/quantprobe.py", "labelprobe.py", "makeresult.py", "utils/superdetector_inversion_utils.py",
}  # fmt: skip
TESTS = ROOT / "sae_assets_tests"


@pytest.mark.parametrize("page", ["architecture", "reliability"])
def test_pages_name_files_that_exist(page: str) -> None:
    """Files and folders, from the package, its tests or the project's folder on."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([\w/]+\.py)\b[^`]*`|`([\w/]+/)`", text))
    folders = (ROOT, ROOT / "sae_assets", TESTS, ROOT / "sae_assets" / "rows", ROOT / "sae_assets" / "pipeline")
    assert len(names) > 30
    assert [
        name for pair in sorted(names) for name in pair if not any((each / name).exists() for each in folders)
    ] == []


def test_numerics_names_places_that_exist() -> None:
    """Modules, tests and benchmarks that the document names are there, and so are names inside modules."""
    text = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`(?:python )?([\w/.]+\.py)\b[^`]*`", text)) - FOREIGN
    folders = (ROOT, ROOT / "sae_assets", TESTS, TESTS / "ops", TESTS / "reference", ROOT / "benchmarks")
    assert len(files) > 40
    assert [name for name in sorted(files) if not any((folder / name).is_file() for folder in folders)] == []
    for name in set(re.findall(r"`(ops(?:\.\w+)+)`", text)):
        _, module, *rest = name.split(".")
        assert all(hasattr(getattr(sae_assets.ops, module), each) for each in rest), name


def test_every_statistic_has_its_place_its_oracle_and_where_it_fails() -> None:
    """Each section of the document down to the last statistic names code, what it was held against, and its limits."""
    text = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
    statistics = text[text.index("## Encode") : text.index("## Memory and passes")]
    for body in re.split(r"^## ", statistics, flags=re.M)[1:]:
        name = body.splitlines()[0]
        assert re.search(r"`ops[./]\w+", body), name
        assert re.search(r"[Oo]racle", body), name
        assert re.search(r"\b[Ff]ails?\b", body), name
