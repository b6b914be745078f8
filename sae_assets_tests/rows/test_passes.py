"""Passes of a fixed shape: no row depends on which examples went with it, at any place, for any chunking."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sae_assets.datasets.inputs import InputImages, inputs_entry
from sae_assets.rows.images import open_image_rows
from sae_assets.rows.loaded import KEPT
from sae_assets.rows.passes import MOST_BESIDE, POSITIONS, FixedShapes, ForwardPass, in_groups, padded, together
from sae_assets.rows.texts import TextRows, open_text_rows
from sae_assets.rows.threads import prepared, side_by_side
from sae_assets.rows.transformers.files import quiet
from sae_assets_tests.helpers.threads import torch_threads
from sae_assets_tests.rows.texts_folder import GivenTexts
from sae_assets_tests.rows.tiny_model import catalog_model
from sae_assets_tests.rows.tiny_transformers import (
    TEXT,
    TEXT_MODELS,
    VISION_MODELS,
    VOCABULARY,
    WIDTH,
    entry,
    gemma_tokenizer,
    long_but,
)
from sae_assets_tests.strategies import PROPERTY

REFUSED = ("mae_unmasked", "mae", "swin", "naflex")  # by name, when they are opened
VISION = sorted({"open_clip", *VISION_MODELS} - {*REFUSED})
WORDS = ["hello", "world", "this", "is", "a", "café", "ok", "<b>", "🤖", "of a new line", "text"]
BATCHES = [None, pytest.param(3, marks=pytest.mark.long)]


@pytest.fixture(params=[1])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads of torch's that the test has, one unless it asks for others."""
    KEPT.clear()
    with torch_threads(request.param):
        yield request.param


def chunkings(n: int, seed: int) -> Iterator[list[list[int]]]:
    """All at once, in a random order and cut anywhere, and every other one for itself, the last but one too."""
    yield [list(range(n))]
    drawn = random.Random(seed)
    order, cuts = drawn.sample(range(n), n), sorted(drawn.sample(range(1, n), 3))
    yield [order[start:stop] for start, stop in zip([0, *cuts], [*cuts, n], strict=True)]
    yield [[place] for place in sorted({*range(0, n, 2), n - 2})]


def expect_equal_rows(embed: Callable[[Sequence[int]], Iterator[Tensor]], n: int) -> None:
    first: dict[int, Tensor] = {}
    for chunking in chunkings(n, seed=n):
        for chunk in chunking:
            for place, rows in zip(chunk, embed(chunk), strict=True):
                assert torch.equal(first.setdefault(place, rows.clone()), rows)
    assert len(first) == n and len({rows.double().sum().item() for rows in first.values()}) > 1


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("forward_batch", BATCHES)
@pytest.mark.parametrize("name", long_but(("open_clip", "clip", "dinov2", "beit"), VISION))
def test_images_keep_their_rows(
    transformer: Callable[[str], Path], tiny: Path, name: str, forward_batch: int | None
) -> None:
    """Heads are 8 wide and positions mostly odd: threads that share a pass would change the last bits by its places."""
    model = catalog_model(tiny, Path("no-sae.pt")) if name == "open_clip" else entry(transformer(name))
    noise = torch.randint(0, 256, (9, 40, 52, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pictures = {str(place): Image.fromarray(pixels.numpy()) for place, pixels in enumerate(noise)}
    source = open_image_rows(
        InputImages(inputs_entry(model, None), pictures), model, ("patch",), "cpu", "float32", forward_batch
    )
    expect_equal_rows(lambda chunk: (found.rows["patch"] for found in source.embed([*map(str, chunk)])), 9)
    assert not source.one_by_one


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("forward_batch", BATCHES)
@pytest.mark.parametrize("name", long_but(("bert", "gemma2"), sorted(TEXT_MODELS)))
def test_texts_keep_their_rows(transformer: Callable[[str], Path], name: str, forward_batch: int | None) -> None:
    """Of all lengths, the longest cut at what the model takes; a text without tokens among them."""
    drawn = random.Random(1)
    texts = [" ".join(drawn.choices(WORDS, k=n)) for n in (1, 2, 3, 5, 5, 8, 9, 13, 30, 60)] + [""]
    model = entry(transformer(name), "text", cls="last")
    source = open_text_rows(GivenTexts(texts), model, ("token", "cls"), "cpu", "float32", forward_batch)
    assert isinstance(source, TextRows)
    expect_equal_rows(
        lambda chunk: (torch.cat([*found.rows.values()]) for found in source.embed([*map(str, chunk)])), len(texts)
    )
    assert not source.one_by_one
    alone = open_text_rows(GivenTexts(texts), model, ("token", "cls"), "cpu", "float32")
    for found, expected in zip(source.embed([*source_ids(texts)]), alone.embed([*source_ids(texts)]), strict=True):
        torch.testing.assert_close(found.rows["token"], expected.rows["token"], rtol=1e-4, atol=1e-4)


def source_ids(texts: Sequence[str]) -> Iterator[str]:
    return map(str, range(len(texts)))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_model_whose_rows_depend_on_others_goes_one_by_one(size: int) -> None:
    """Here the mean of the batch, as of a norm over it; then each example alone decides its rows."""

    def forward(inputs: Sequence[Tensor], _length: int | None) -> list[Tensor]:
        batch = torch.stack([*inputs])
        return [*(batch - batch.mean(0))]

    shapes = FixedShapes(forward, torch.zeros_like)
    inputs = [*torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))]
    for group in in_groups(inputs, size):
        for one in shapes.rows([ForwardPass(group, size, 4)])[0]:
            assert torch.equal(one, torch.zeros(4, 2))
    assert shapes.one_by_one == (size > 1)


@pytest.mark.usefixtures("threads")
def test_a_model_that_is_known_to_mix_is_not_tried() -> None:
    seen: list[int] = []

    def forward(inputs: Sequence[Tensor], _length: int | None) -> list[Tensor]:
        seen.append(len(inputs))
        return [*inputs]

    shapes = FixedShapes(forward, torch.zeros_like, alone=True)
    assert (
        len(shapes.rows([ForwardPass([torch.ones(2, 2)] * 3, 4, 8)])[0]) == 3
        and seen == [1, 1, 1]
        and shapes.one_by_one
    )


def test_a_model_whose_rows_depend_on_their_place_goes_one_by_one() -> None:
    def forward(inputs: Sequence[Tensor], _length: int | None) -> list[Tensor]:
        return [x + torch.finfo(torch.float32).eps * place for place, x in enumerate(inputs)]

    shapes = FixedShapes(forward, torch.zeros_like)
    for _ in range(2):
        ((rows,),) = shapes.rows([ForwardPass([torch.ones(1, 2)], 4, 1)])
        assert torch.equal(rows, torch.ones(1, 2)) and shapes.one_by_one


@pytest.mark.parametrize(("precision", "noise", "found"), [
    ("float32", 1e-5, False), ("float32", 1e-2, True), ("bfloat16", 1e-2, False), ("bfloat16", 1.0, True),
])  # fmt: skip
def test_a_model_whose_rows_depend_on_what_fills_them_up_goes_one_by_one(
    precision: str, noise: float, found: bool
) -> None:
    """As FNet's, and at the edge ConvBERT's; the last bits of another shape are rounding, of half precision more."""

    def forward(inputs: Sequence[Tensor], length: int | None) -> list[Tensor]:
        return [x + noise * ((length or len(x)) - len(x)) for x in inputs]

    shapes = FixedShapes(forward, lambda x: x[:1], precision)
    ((rows,),) = shapes.rows([ForwardPass([torch.ones(2, 1)], 4, 3)])
    assert shapes.one_by_one == found
    assert torch.equal(rows, torch.ones(2, 1)) == found


def test_what_only_longer_inputs_show_is_found() -> None:
    """Other positional frequencies change no first row: an input of several rows is tried beside the shortest there
    can be.
    """

    def forward(inputs: Sequence[Tensor], length: int | None) -> list[Tensor]:
        return [x + (length or len(x)) * torch.arange(len(x))[:, None] for x in inputs]

    shapes = FixedShapes(forward, lambda x: x[:1])
    (found,) = shapes.rows([ForwardPass([torch.ones(8, 1), torch.ones(2, 1)], 2, 8)])
    assert shapes.one_by_one and found[1][:, 0].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(("heeds", "found"), [(0.0, False), (1e-7, True)])
def test_what_fills_an_input_up_is_of_no_account(heeds: float, found: bool) -> None:
    """In half precision rounding hides what a convolution takes from its neighbours; another filling shows it."""

    def forward(inputs: Sequence[Tensor], _length: int | None, filling: float = 0.0) -> list[Tensor]:
        return [x + heeds * filling for x in inputs]

    shapes = FixedShapes(forward, lambda x: x[:1], "bfloat16", lambda inputs, length: forward(inputs, length, 2.0))
    shapes.rows([ForwardPass([torch.ones(2, 1)], 4, 3)])
    assert shapes.one_by_one == found


CONFIGURATIONS: dict[str, tuple[Callable[[], Any], bool]] = {
    "convbert": (lambda: hf.ConvBertModel(hf.ConvBertConfig(**TEXT, embedding_size=WIDTH)), True),
    "bert": (lambda: hf.BertModel(hf.BertConfig(**TEXT)), False),
    "gpt2": (lambda: hf.GPT2Model(hf.GPT2Config(n_embd=WIDTH, n_layer=2, n_head=2, vocab_size=VOCABULARY)), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_models_in_half_precision_that_heed_what_fills_texts_up(tmp_path: Path, name: str, precision: str) -> None:
    """ConvBERT's rows differ by 2 % where its convolutions reach the filling, as much as rounding may."""
    make, heeds = CONFIGURATIONS[name]
    with quiet():
        make().save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    rows = open_text_rows(GivenTexts(("hello world",)), entry(tmp_path, "text"), ("token",), "cpu", precision, None)
    [*_] = rows.embed(["0"])
    assert rows.one_by_one == heeds


@pytest.mark.slow
def test_mixtures_of_experts_go_one_by_one(tmp_path: Path) -> None:
    """The products of an expert are as large as the tokens that go to it from all texts; a try may not show it."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        wider = {**TEXT, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
        network = hf.MixtralModel(hf.MixtralConfig(**wider, num_key_value_heads=2, num_local_experts=4))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        network.save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    drawn = random.Random(3)
    words = [word for word in WORDS if word != "🤖"]  # with these a pass of the first try shows nothing
    texts = [" ".join(drawn.choices(words, k=n)) for n in (1, 2, 3, 5, 8, 9, 13, 20, 30, 45)]
    found: list[Tensor] = []
    for order in (range(len(texts)), reversed(range(len(texts)))):
        KEPT.clear()
        source = open_text_rows(GivenTexts(texts), entry(tmp_path, "text"), ("token",), "cpu", "float32", None)
        order = [*order]
        rows = {place: rows.rows["token"] for place, rows in zip(order, source.embed([*map(str, order)]), strict=True)}
        found.append(torch.cat([rows[place] for place in range(len(texts))]))
    assert torch.equal(*found)
    assert source.one_by_one


@pytest.mark.slow
def test_texts_that_are_filled_up_have_the_rows_that_they_have_alone(tmp_path: Path) -> None:
    """FNet transforms along all positions, and takes no mask."""
    with quiet():
        hf.FNetModel(hf.FNetConfig(**TEXT, tie_word_embeddings=False)).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    texts = ("hello world", "this is a text of more than eight tokens, so it is")
    together_, alone = (
        [*open_text_rows(GivenTexts(texts), entry(tmp_path, "text"), ("token",), "cpu", "float32", n).embed(["0", "1"])]
        for n in (None, 1)
    )
    for one, other in zip(together_, alone, strict=True):
        assert torch.equal(one.rows["token"], other.rows["token"])


@pytest.mark.usefixtures("threads")
def test_each_shape_is_tried_once() -> None:
    """With four more passes; a pass alone needs none."""
    seen: list[tuple[int, int | None]] = []

    def forward(inputs: Sequence[Tensor], length: int | None) -> list[Tensor]:
        seen.append((len(inputs), length))
        return [*inputs]

    shapes, x = FixedShapes(forward, torch.zeros_like), torch.ones(2, 2)
    for size, length in ((4, 8), (4, 8), (4, 16), (1, 8), (1, 8)):
        shapes.rows([ForwardPass([x, x][:size], size, length)])
    once = (1, None)
    assert seen == [*[(4, 8)] * 3, once, once, (4, 8), *[(4, 16)] * 3, once, once, once, once]


@settings(PROPERTY, max_examples=100)
@given(st.integers(1, 10**6), st.none() | st.integers(1, 10**6))
def test_lengths_are_filled_up_by_little(length: int, longest: int | None) -> None:
    """By less than 8 or a quarter, never beyond what the model takes, and what is full stays as it is."""
    full = padded(length, longest)
    assert length <= full and (full - length < 8 or full <= 1.25 * length)
    assert padded(full, longest) == full
    assert longest is None or longest < length or full <= longest


def test_a_pass_has_as_many_examples_as_the_device_takes() -> None:
    assert [together(None, length, "cpu") for length in (1, 65, 257, 4096)] == [POSITIONS, 3, 1, 1]
    assert together(5, 4096, "cpu") == 5


def test_what_is_prepared_comes_in_order_and_little_ahead() -> None:
    lock, begun = threading.Lock(), 0

    def prepare(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return item * item

    for done, result in enumerate(prepared(prepare, range(20), 4)):
        assert result == done * done
        assert begun <= done + 1 + 4


def test_what_cannot_be_prepared_is_raised_in_its_turn() -> None:
    found = prepared(lambda item: 1 // item, [2, 1, 0, 3], 8)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare") and thread.is_alive()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_clip", "vit", "gpt2"])
def test_rows_do_not_depend_on_the_number_of_threads(transformer: Callable[[str], Path], tiny: Path, name: str) -> None:
    """Whether many passes are computed or one, whose bits by all threads together would be others (heads 8 wide)."""
    noise = torch.randint(0, 256, (70, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pictures = {str(place): Image.fromarray(pixels.numpy()) for place, pixels in enumerate(noise)}
    texts = [" ".join(random.Random(n).choices(WORDS, k=1 + n % 19)) for n in range(70)]
    found: list[list[Tensor]] = []
    for n_threads, chunk_size in ((1, 70), (2, 70), (5, 70), (5, 7)):
        KEPT.clear()
        with torch_threads(n_threads):
            rows: list[Tensor] = []
            if name == "gpt2":
                model, kind = entry(transformer(name), "text"), "token"
                source: Any = open_text_rows(GivenTexts(texts), model, (kind,), "cpu", "float32", None)
            else:
                model = catalog_model(tiny, Path("no-sae.pt")) if name == "open_clip" else entry(transformer(name))
                images, kind = InputImages(inputs_entry(model, None), pictures), "patch"
                source = open_image_rows(images, model, (kind,), "cpu", "float32", None)
            for chunk in in_groups([*map(str, range(70))], chunk_size):
                rows += (each.rows[kind] for each in source.embed(chunk))
        assert not source.one_by_one
        found.append(rows)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [3], indirect=True)
def test_threads_work_alone() -> None:
    """Whatever the process has set since they started: a thread's first work would take it over otherwise."""
    torch.set_num_threads(2)
    torch.set_num_threads(3)
    assert side_by_side([torch.get_num_threads] * 6) == [1] * 6
    assert [*prepared(lambda _: torch.get_num_threads(), range(6), 3)] == [1] * 6
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [2], indirect=True)
def test_the_first_that_fails_is_raised_when_no_other_goes_on() -> None:
    going: list[int] = []

    def call(number: int) -> int:
        going.append(number)
        result = 1 // number
        going.remove(number)
        return result

    with pytest.raises(ZeroDivisionError):
        side_by_side([partial(call, number) for number in (1, 0, 2, 3)])
    assert going == [0]


class Recorder:
    """Rows are the inputs themselves, and by all threads together something else, unless ``same``."""

    def __init__(self, same: bool = True):
        self.seen: list[tuple[int, int]] = []  # of each call the inputs and the threads that shared it
        self._same = same

    def __call__(self, inputs: Sequence[Tensor], _length: int | None) -> list[Tensor]:
        n_threads = torch.get_num_threads()
        self.seen.append((len(inputs), n_threads))
        return [x + (0 if self._same else n_threads - 1) for x in inputs]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [4], indirect=True)
@pytest.mark.parametrize("same", [True, False])
def test_few_passes_are_shared_by_all_threads_where_that_changes_no_bit(same: bool) -> None:
    recorder = Recorder(same)
    shapes = FixedShapes(recorder, torch.zeros_like)
    for n_passes in (5, 2, 2, 3, 1):
        del recorder.seen[:]
        passes = [ForwardPass([torch.full((8, 1024), float(n))], 3, 8) for n in range(n_passes)]
        for n, (rows,) in enumerate(shapes.rows(passes)):
            assert torch.equal(rows, torch.full((8, 1024), float(n)))
        shared = [n_threads for _, n_threads in recorder.seen if n_threads > 1]
    assert len(recorder.seen) == 1 and shared == ([4] if same else [])
    assert not shapes.one_by_one


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [4], indirect=True)
def test_what_several_threads_change_is_tried_for_each_length_of_an_input_that_nothing_fills_up() -> None:
    """As threads that share a head 8 wide: of an odd number of positions, which one of the same pass need not have."""

    def forward(inputs: Sequence[Tensor], _length: int | None) -> list[Tensor]:
        return [x + (torch.get_num_threads() - 1) * (len(x) % 2) for x in inputs]

    shapes = FixedShapes(forward, torch.zeros_like, length_of=len)
    for length in (4, 5, 4, 5):
        ((rows,),) = shapes.rows([ForwardPass([torch.ones(length, 2048)], 1, 8)])
        assert torch.equal(rows, torch.ones(length, 2048))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [4], indirect=True)
def test_large_passes_are_computed_one_after_the_other_by_all_threads() -> None:
    recorder = Recorder()
    shapes = FixedShapes(recorder, torch.zeros_like)
    shapes.rows([ForwardPass([torch.ones(1, 1)], 1, MOST_BESIDE + 1)] * 5)
    assert recorder.seen == [(1, 4)] * 5


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize("size", [1, 3])
def test_a_model_that_changes_itself_meanwhile_is_asked_by_one_thread_at_a_time(size: int) -> None:
    """Its rows are others where a pass begins while another is under way."""
    lock, inside, begun = threading.Lock(), [0], [0]

    def forward(inputs: Sequence[Tensor], _length: int | None) -> list[Tensor]:
        with lock:
            inside[0] += 1
            begun[0] += 1
            among, number = inside[0], begun[0]
        time.sleep(0.02)
        with lock:
            inside[0] -= 1
            disturbed = among > 1 or begun[0] > number
        return [x + disturbed for x in inputs]

    shapes = FixedShapes(forward, torch.zeros_like)
    for _ in range(2):
        for rows in shapes.rows([ForwardPass([torch.ones(1, 1)], size, 1)] * 3):
            assert rows[0].item() == 1
    assert shapes.one_by_one


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [4], indirect=True)
def test_few_numbers_may_agree_by_chance() -> None:
    recorder = Recorder()
    shapes = FixedShapes(recorder, torch.zeros_like)
    for _ in range(2):
        shapes.rows([ForwardPass([torch.ones(8, 2)], 1, 8)])
    assert {n_threads for _, n_threads in recorder.seen} == {1}
