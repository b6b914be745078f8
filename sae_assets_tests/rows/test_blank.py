"""Examples that show nothing are named by whoever opens them: the pass that encodes, and the look that does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sae_assets.artifacts import Examples
from sae_assets.datasets import open_dataset
from sae_assets.rows.blank import blank_examples, is_one_colour
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.images import open_image_rows
from sae_assets.rows.texts import open_text_rows
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.rows.texts_folder import GivenTexts
from sae_assets_tests.rows.tiny_model import WIDTH, catalog_model
from sae_assets_tests.rows.tiny_transformers import entry
from sae_assets_tests.saes.published import published, save

TEXTS = ("hello joyful world", "", " \n\t ", "ok")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (7, 80, 200)])
def test_one_pixel_of_another_colour_is_enough(colour: tuple[int, int, int]) -> None:
    image = Image.new("RGB", (5, 3), colour)
    assert is_one_colour(image)
    for place in ((4, 2), (0, 1)):  # on the diagonal, and beside it
        other = image.copy()
        other.putpixel(place, (colour[0], colour[1], colour[2] ^ 1))
        assert not is_one_colour(other)


def test_images_of_one_colour_are_named_by_the_pass_that_encodes(
    tmp_path: Path, tiny: Path, pictures: ClevrFolder
) -> None:
    """``c`` is grey on grey; once for all token kinds, in the chunk's order, whatever the batch."""
    Image.new("RGB", (32, 32), (0, 0, 0)).save(pictures.root / "images" / "a.png")
    dataset, reader = pictures.entry(), open_dataset(pictures.entry())
    model = catalog_model(tiny, save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)))
    chunk = Examples(0, ("c", "b", "a"), ("c", "b", "a"), ("0", "1", "2"))
    for batch_size in (1, 2, 5):
        result = encode_chunk(
            chunk, ("patch", "cls"), dataset=dataset, model=model, reader=reader, k_stored=None, precision="float32",
            batch_size=batch_size, device="cpu", memory_budget=2**20,
        )  # fmt: skip
        assert result.blank == ("c", "a")
    source = open_image_rows(reader, model, ("cls",), "cpu", "float32")
    assert [rows.blank for rows in source.embed(chunk.example_ids)] == [True, False, True]
    (pictures.root / "images" / "c.png").write_bytes(b"no image")
    assert list(blank_examples(reader, chunk.example_ids)) == ["a"]


def test_empty_texts_are_named(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """Also one whose white space is tokens of the model's."""
    reader, model = GivenTexts(TEXTS), entry(transformer("gpt2"), "text", tmp_path / "no-sae.pt")
    source = open_text_rows(reader, model, ("token", "cls"), "cpu", "float32")
    assert [rows.blank for rows in source.embed(("0", "1", "2", "3"))] == [False, True, True, False]
    assert list(blank_examples(reader, ("0", "1", "2", "3", "9"))) == ["1", "2"]
