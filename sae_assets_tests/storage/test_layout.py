"""Where files lie, and that no name from outside becomes a path as it is."""

import pytest
from upath import UPath

from sae_assets.errors import StoredFileError
from sae_assets.storage.address import Address, address_at, path_of

ROOT = UPath("memory://root")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (Address("d", "sparse_activations", "patch", "m", "0003"), "d/patch/m/sparse_activations/0003.parquet"),
        (Address("d", "unit_stats", "cls", "m"), "d/cls/m/unit_stats/all.parquet"),
        (Address("d", "examples", chunk="0000"), "d/examples/0000.parquet"),
        (Address("d", "ViT_L.14-x"), "d/ViT_L.14-x/all.parquet"),
    ],
)
def test_paths(address: Address, path: str) -> None:
    """Data set, token kind, model and stage are folders, the chunk is the file; model-level files are ``all``."""
    assert path_of(ROOT, address, "parquet") == ROOT / path
    if address.stage != "ViT_L.14-x":
        assert address_at(ROOT, ROOT / path) == address


def test_files_that_are_none_of_the_stores() -> None:
    assert address_at(ROOT, ROOT / "d/cls/unit_stats/all.parquet") is None
    assert address_at(ROOT, UPath("memory://other/d/examples/0000.parquet")) is None


def test_commands_that_make_an_artifact() -> None:
    chunk = Address("d", "sparse_activations", "patch", "m", "0003")
    assert chunk.making == "sae-assets materialize -d d -m m --token-kind patch --to sparse_activations"
    assert chunk.remaking == (
        "sae-assets materialize -d d -m m --token-kind patch --from sparse_activations --to sparse_activations "
        "--chunks 0003 --force"
    )
    assert Address("d", "examples", chunk="0000").making == "sae-assets materialize -d d --to examples"


def test_addresses_read_well() -> None:
    """An address is shown as its parts that apply."""
    assert str(Address("d", "unit_stats", "cls", "m")) == "d/cls/m/unit_stats"
    assert str(Address("d", "examples", chunk="0000")) == "d/examples/0000"


UNSAFE = [
    *("", ".", "..", "a..b", "../a", "a/b", "/a", "a\\b", ".hidden", ".tmp-1", "-a", "_a", "a b", "a\n", "\na", "a|b"),
    *("a,b", "a:b", "a*", "~", "é", "a\x00b", "a" * 129, "s3://bucket"),
]


@pytest.mark.parametrize("part", UNSAFE)
@pytest.mark.parametrize("field", ["dataset", "stage", "token_kind", "model", "chunk"])
def test_unsafe_parts_are_refused(field: str, part: str) -> None:
    """Nothing that leaves the folder, hides a file or means something to a shell or a URL; the part is shown."""
    parts = {"dataset": "d", "stage": "s", "token_kind": "patch", "model": "m", "chunk": "0000", field: part}
    with pytest.raises(StoredFileError, match="is not a plain name") as caught:
        path_of(ROOT, Address(**parts), "parquet")
    assert repr(part) in str(caught.value)


@pytest.mark.parametrize("part", ["a", "0", "A.b_c-d", "a" * 128])
def test_plain_parts_are_allowed(part: str) -> None:
    """Letters, digits, underscore, dash and dot inside."""
    assert Address(part, part, part, part, part).parts() == (part,) * 5
