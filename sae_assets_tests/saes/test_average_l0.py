"""Which of Gemma Scope's checkpoints is meant: by number, or the one nearest to 100, wherever the choices lie."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import pytest

from sae_assets.catalog import Sae
from sae_assets.errors import CheckpointError
from sae_assets.saes.average_l0 import choose_l0, listed_l0, named_l0
from sae_assets.saes.files import locate_sae

REPO = "google/gemma-scope-9b-pt-res"
FILE = "layer_34/width_16k/average_l0_{average_l0}/params.npz"
COMMIT = "0123456789012345678901234567890123456789"


@pytest.mark.parametrize(
    ("found", "wanted", "chosen"),
    [
        ([22, 71, 105, 218], None, 105),
        ([22, 71, 105, 218], "canonical", 105),
        ([95, 105], None, 95),
        ([105, 95], "canonical", 95),
        ([500], None, 500),
        ([22, 71, 105, 218], 22, 22),
    ],
)
def test_choice(found: list[int], wanted: int | str | None, chosen: int) -> None:
    """The nearest to 100, of two as near the lower; or the number that is named."""
    assert choose_l0(wanted, found, "here") == chosen


def test_a_number_that_is_not_there_lists_those_that_are() -> None:
    """Also where it is near to one that is."""
    with pytest.raises(CheckpointError, match="here has no average_l0_100; there are 22, 99, 105"):
        choose_l0(100, [105, 22, 99], "here")


@pytest.fixture
def width(tmp_path: Path) -> Path:
    """A width folder: three checkpoints, and folders that are none."""
    folder = tmp_path / "layer_34/width_16k"
    for number in (22, 88, 114):
        put(folder / f"average_l0_{number}/params.npz")
    (folder / "average_l0_100").mkdir()  # a download that did not happen
    put(folder / "average_l0_101.bak/params.npz")
    put(folder / "average_l0_canonical/params.npz")
    return folder


@pytest.mark.parametrize(
    ("path", "number"),
    [("average_l0_22", 22), ("average_l0_22/params.npz", 22), ("average_l0_22/a/b", None), ("average_l0_x/p", None)],
)
def test_what_a_checkpoint_is_named_after(path: str, number: int | None) -> None:
    assert named_l0(Path(path)) == number


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def local(path: Path, average_l0: int | str | None = None) -> Path | None:
    return locate_sae(Sae(format="gemmascope", path=path, average_l0=average_l0), download=False)


def test_local_paths(width: Path) -> None:
    """The file, its folder, or the width folder with a choice."""
    for number in (22, 88, 114):
        file = width / f"average_l0_{number}/params.npz"
        assert file == local(file) == local(file.parent) == local(width, number) == local(file, number)
    assert local(width) == local(width, "canonical") == width / "average_l0_88/params.npz"


def test_a_number_that_is_not_in_the_folder(width: Path) -> None:
    """The folder, the number, and those that are there; an empty folder does not count."""
    with pytest.raises(CheckpointError, match=r"width_16k has no average_l0_100; there are 22, 88, 114\."):
        local(width, 100)


def test_a_number_that_contradicts_the_path(width: Path) -> None:
    """The path names one already."""
    for path in (width / "average_l0_22", width / "average_l0_22/params.npz"):
        with pytest.raises(CheckpointError, match=r"`sae\.average_l0` is 88, but .* is average_l0_22 already"):
            local(path, 88)


def test_folders_without_a_checkpoint(tmp_path: Path) -> None:
    """A folder too high or too low; what could be in it is said."""
    put(tmp_path / "layer_34/width_16k/average_l0_88/params.npz")
    with pytest.raises(CheckpointError, match=r"holds no Gemma Scope checkpoint: neither params\.npz, nor"):
        local(tmp_path / "layer_34")


def test_gemma_scope_2_paths(tmp_path: Path) -> None:
    """The folder, or either of its files, is the folder; the number in its name is of another kind."""
    folder = tmp_path / "layer_17_width_16k_l0_big"
    files = put(folder / "params.safetensors"), put(folder / "config.json")
    assert all(local(path) == folder for path in (folder, *files))


def test_other_files(tmp_path: Path) -> None:
    """A file of another format: both that are read are named."""
    with pytest.raises(CheckpointError, match=r"with config\.json and params\.safetensors, or a params\.npz"):
        local(put(tmp_path / "sae.pt"))


class Hub:
    """A hub that lists some numbers, and gives any file; both are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path, numbers: list[int]):
        self.cache, self.numbers = cache, numbers
        self.lists: list[tuple] = []
        self.files: list[str] = []
        self.reachable = True
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)
        listed_l0.cache_clear()

    def list_repo_tree(self, repo: str, path: str | None, *, recursive: bool, revision: str | None) -> list:
        self.lists.append((repo, path, revision))
        if not self.reachable:
            raise OSError("no network")
        names = [f"{path}/average_l0_{number}" for number in self.numbers]
        files = [f"{name}/params.npz" for name in names]
        noise = [
            f"{path}/average_l0_100/params.npz.tmp",
            f"{path}/average_l0_100/notes/params.npz",
            f"{path}/README.md",
        ]
        return [SimpleNamespace(path=name) for name in names + files + noise]

    def download(self, repo: str, file: str, *, revision: str | None) -> str:
        self.files.append(file)
        if not self.reachable:
            raise OSError("no network")
        return str(self.put(file))

    def put(self, file: str, reference: str = "main") -> Path:
        root = self.cache / f"models--{REPO.replace('/', '--')}"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / reference).write_text(COMMIT)
        return put(root / "snapshots" / COMMIT / file)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    return Hub(monkeypatch, tmp_path / "cache", [22, 71, 105, 218])


def remote(average_l0: int | str | None = None, file: str = FILE, **named: str) -> Sae:
    return Sae(format="gemmascope", repo=REPO, file=file, average_l0=average_l0, **named)


def named(number: int) -> str:
    return FILE.replace("{average_l0}", str(number))


@pytest.mark.parametrize("wanted", [None, "canonical"])
def test_the_hubs_list_decides_where_download_is_allowed(hub: Hub, wanted: str | None) -> None:
    """Without leave to download nothing is asked; with it the width folder is listed once per process."""
    assert locate_sae(remote(wanted), download=False) is None
    assert (hub.lists, hub.files) == ([], [])
    hub.put(named(22))  # somebody fetched another one before
    found = locate_sae(remote(wanted), download=True)
    assert found is not None and found.parent.name == "average_l0_105"
    assert locate_sae(remote(wanted), download=True) == found == locate_sae(remote(wanted), download=False)
    assert hub.lists == [(REPO, "layer_34/width_16k", None)]
    assert hub.files == [named(105)]


def test_a_named_number_asks_for_no_list(hub: Hub) -> None:
    """It is fetched as it stands, and found in the cache afterwards."""
    assert locate_sae(remote(71), download=False) is None
    found = locate_sae(remote(71), download=True)
    assert found == locate_sae(remote(71), download=False)
    assert (hub.lists, hub.files) == ([], [named(71)])


def test_without_network_the_cache_decides(hub: Hub) -> None:
    """What was fetched before is found again; nothing fetched is an error that says what to do."""
    hub.reachable = False
    with pytest.raises(CheckpointError, match=r"could not be fetched .*Without network"):
        locate_sae(remote(), download=True)
    expected = hub.put(named(105))
    hub.put(named(218))
    assert locate_sae(remote(), download=True) == expected == locate_sae(remote(), download=False)


def test_only_the_named_revision_counts(hub: Hub) -> None:
    """The cache of another revision, by name or commit, is not looked at."""
    expected = hub.put(named(105), reference="v1")
    assert locate_sae(remote(), download=False) is None
    assert locate_sae(remote(revision="v1"), download=False) == expected
    assert locate_sae(remote(revision=COMMIT), download=False) == expected


def test_a_folder_in_the_repository(hub: Hub) -> None:
    """`average_l0_…` without the file's name is the same checkpoint."""
    found = locate_sae(remote(file=FILE.removesuffix("/params.npz")), download=True)
    assert hub.files == [named(105)] and found is not None and found.name == "params.npz"


def test_a_number_without_a_place_for_it(hub: Hub) -> None:
    """A number that the file's name cannot take is a mistake, unless it is there already."""
    with pytest.raises(CheckpointError, match=r"`sae\.average_l0` is 71, but `sae\.file` .* has no \{average_l0\}"):
        locate_sae(remote(71, file=named(105)), download=True)
    assert locate_sae(remote(105, file=named(105)), download=True) is not None


def test_a_repository_without_choices(hub: Hub) -> None:
    """A list without any checkpoint: the file and the repository are named."""
    hub.numbers = []
    with pytest.raises(CheckpointError, match=f"{REPO} holds no Gemma Scope checkpoint"):
        locate_sae(remote(), download=True)
