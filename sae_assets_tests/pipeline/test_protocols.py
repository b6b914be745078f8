"""``sae-assets protocol`` on a small home: what is read and needed, and figures as the ops give them."""

import json

import pytest

from sae_assets.commands.protocols import PROTOCOLS
from sae_assets_tests.helpers.homes import invoke
from sae_assets_tests.pipeline.small import CONCEPTS, with_packaged

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("protocols")]


@pytest.fixture(scope="module")
def home(tmp_path_factory, made_home):
    return made_home(tmp_path_factory.mktemp("protocols"), token_kinds=["patch", "cls"])


def ask(home, *arguments):
    return invoke(home, "protocol", *arguments)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_figures_of_every_concept(home, protocol):
    """As JSON and in print; what is read are the stored rows of both splits, and nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in (home["home"] / "store").rglob("*") if path.is_file()}
    asked = ask(home, protocol, "small", "clip-mini", "--json")
    assert asked.exit_code == 0, asked.stderr
    content = json.loads(asked.stdout)
    assert content["protocol"] == protocol and content["token_kind"] == "patch"
    assert set(content["concepts"]) <= set(CONCEPTS) and content["concepts"] and content["figures"]["splits"]
    printed = ask(home, protocol, "small", "clip-mini")
    assert printed.exit_code == 0 and next(iter(content["concepts"])) in printed.stdout
    assert max(map(len, printed.stdout.splitlines())) <= 100
    assert before == {path: path.stat().st_mtime_ns for path in (home["home"] / "store").rglob("*") if path.is_file()}


def test_what_a_protocol_needs_is_said(home, tmp_path, made_home):
    """Location, train examples, files, and names: each lack is an error that says what to do."""
    home = {**home, "catalog": with_packaged(home["catalog"], tmp_path / "packaged.yaml")}
    for arguments, said, code in (
        (("saev", "small", "clip-mini", "--token-kind", "cls"), "locates none of its concepts", 1),
        (("netdisect", "small", "clip-mini"), "Did you mean 'netdissect'", 2),
        (("netdissect", "small", "gemma-mini"), "does not use model", 2),
        (("netdissect", "small", "clip-mini", "--pooling", "mean"), "does not pool rows", 2),
        (("netdissect", "clevr_mini", "clip-mini"), "has no chunks", 1),
    ):
        asked = ask(home, *arguments)
        assert asked.exit_code == code and said in asked.stderr, asked.stderr
    untrained = made_home(tmp_path, "sparse_activations")
    table = untrained["root"] / "metadata.csv"
    table.write_text(table.read_text().replace(",train", ",test"))
    assert invoke(untrained, "materialize", "-d", "small", "--to", "labels").exit_code == 0
    asked = ask(untrained, "interplm", "small", "clip-mini")
    assert asked.exit_code == 1 and "needs examples of train and cal and test" in asked.stderr
