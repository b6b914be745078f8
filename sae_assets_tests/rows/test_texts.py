"""Texts through language models: the library's own hidden states, token by token; padding leaves no trace."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from sae_assets.errors import CatalogError, CheckpointError
from sae_assets.rows.opening import open_sources, token_spans
from sae_assets.rows.texts import TextRows, lengths_beyond, open_text_rows
from sae_assets.rows.training import trained_elsewhere
from sae_assets.rows.transformers.files import quiet
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets_tests.helpers.threads import torch_threads
from sae_assets_tests.rows.texts_folder import GivenTexts
from sae_assets_tests.rows.tiny_transformers import (
    GEMMA,
    LAYERS,
    TEXT,
    VOCABULARY,
    WIDTH,
    entry,
    full_model,
    gemma_tokenizer,
    long_but,
)

pytestmark = pytest.mark.slow

Models = Callable[[str], Path]
TEXTS = ["hello world", "", "a café is ok 🤖", "this text is longer than its window of eight tokens", "hi"]
IDS = [str(place) for place in range(len(TEXTS))]
NAMES = ("gemma2", "gpt2", "llama", "bert", "roberta")
AT_EACH = [(name, index) for name in NAMES for index in range(LAYERS + 1)]
FINAL_NORM = ("gemma2", "gpt2", "llama")  # their last hidden state is under it


def source(
    folder: Path, texts: list[str] = TEXTS, kinds: tuple[str, ...] = ("token", "cls"), **changes: Any
) -> TextRows:
    precision = changes.pop("precision", "float32")
    changes = {"cls": "mean_embedding", **changes}  # of the ways that are embeddings, the one that is no token's
    found = open_text_rows(GivenTexts(texts), entry(folder, "text", **changes), kinds, "cpu", precision)
    assert isinstance(found, TextRows)
    return found


def library_states(folder: Path, ids: tuple[int, ...]) -> tuple[Tensor, ...]:
    """All hidden states of one text by the library alone, float32 [positions, d_model] each."""
    with torch.inference_mode(), torch_threads(1):  # small products of several have other last bits
        output = full_model(folder)(input_ids=torch.tensor([ids]), output_hidden_states=True)
    return tuple(state[0] for state in output.hidden_states)


def expected_rows(folder: Path, text: str, index: int) -> Tensor:
    encoded = Tokens(entry(folder, "text")).encode(text)
    return library_states(folder, encoded.ids)[index][encoded.rows]


@pytest.mark.parametrize(
    "case",
    long_but([(name, at) for name in NAMES for at in (0, LAYERS)], AT_EACH),
    ids=lambda case: "-".join(map(str, case)),
)
def test_rows_are_the_librarys_hidden_states(transformer: Models, case: tuple[str, int]) -> None:
    """One text at a time: bit by bit, special tokens left out."""
    name, index = case
    rows = source(transformer(name), hidden_state=index)
    assert rows.d_model == WIDTH
    for text, example in zip(TEXTS, IDS, strict=True):
        (found,) = rows.embed([example])
        assert found.rows["token"].dtype == found.rows["cls"].dtype == torch.float32
        if text:
            assert torch.equal(found.rows["token"], expected_rows(transformer(name), text, index))


@pytest.mark.parametrize("layer", long_but([1, LAYERS - 1], range(LAYERS)))
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_is_the_hidden_state_behind_it(transformer: Models, name: str, layer: int) -> None:
    """layer = hidden_states[layer + 1]; of the last block that is so only where no final norm comes between."""
    (found,) = source(transformer(name), layer=layer).embed(["3"])
    states = expected_rows(transformer(name), TEXTS[3], layer + 1)
    if layer == LAYERS - 1 and name in FINAL_NORM:
        assert not torch.allclose(found.rows["token"], states)
        norm = getattr(full_model(transformer(name)), "ln_f" if name == "gpt2" else "norm")
        with torch.inference_mode():
            torch.testing.assert_close(norm(found.rows["token"]), states)
    else:
        assert torch.equal(found.rows["token"], states)


@pytest.mark.parametrize("name", NAMES)
def test_last_hidden_state_says_what_it_lies_behind(transformer: Models, name: str) -> None:
    """An SAE of the last block's output is another place's where the library puts the final norm between."""
    norm = {"gpt2": "`ln_f`"}.get(name, "`norm`") if name in FINAL_NORM else ""
    assert source(transformer(name), hidden_state=LAYERS).final_norm == norm
    assert source(transformer(name), hidden_state=LAYERS - 1).final_norm == source(transformer(name)).final_norm == ""
    sae: Any = SimpleNamespace(hook_point=f"blocks.{LAYERS - 1}.hook_resid_post", training={})
    last = entry(transformer(name), "text", hidden_state=LAYERS)
    said = trained_elsewhere(sae, last, norm)
    assert (
        (f"(before {norm}, not behind it)" in said and f"set `layer: {LAYERS - 1}`" in said)
        if norm
        else "trained at" not in said
    )
    assert "before a final norm (if the model has one), not behind it" in trained_elsewhere(sae, last)
    assert "trained at" not in trained_elsewhere(sae, entry(transformer(name), "text", layer=LAYERS - 1))


@pytest.mark.parametrize(("trained", "said"), [("vision_model.encoder.layers.1", True), ("text_model.layers.1", False)])
def test_sae_of_the_tower_that_reads_images(transformer: Models, trained: str, said: bool) -> None:
    """Block and width are the same; what is read there is not."""
    sae: Any = SimpleNamespace(hook_point=trained, training={})
    found = trained_elsewhere(sae, entry(transformer("gemma2"), "text"))
    where = f"trained where images are read ({trained}), and texts are read here"
    assert found == (where if said else "")


def test_only_texts_that_are_longer_than_the_training_are_a_difference(transformer: Models) -> None:
    """Lengths count what the model reads, special ids too; nobody tokenizes what cannot be as long."""
    model = entry(transformer("gemma2"), "text")
    rows = source(transformer("gemma2"))
    [*_] = rows.embed(IDS)
    lengths = [len(Tokens(model).encode(text).ids) for text in TEXTS]
    assert rows.longest == max(lengths)
    for limit in (1, 5, max(lengths) - 1, max(lengths), 1000):
        found = list(lengths_beyond(GivenTexts(TEXTS), IDS, model, limit))
        assert found == [length for length in lengths if length > limit]
        sae: Any = SimpleNamespace(hook_point=None, training={"context_size": limit})
        said = trained_elsewhere(sae, model, "", lambda most: lengths_beyond(GivenTexts(TEXTS), IDS, model, most))
        assert ("trained on texts of" in said) == bool(found)
        if found:
            assert f"of {limit} tokens, and a text here has {found[0]} (set `max_tokens` to at most {limit})" in said


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_hidden_states_that_are_counted_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    """The library's first hidden state is behind the first block: `layer` is read, `hidden_state` would be another."""
    config = {
        "mamba": lambda: hf.MambaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, state_size=4,
                                        num_hidden_layers=LAYERS),
        "rwkv": lambda: hf.RwkvConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS,
                                      attention_hidden_size=WIDTH, intermediate_size=32, context_length=64),
    }[name]()  # fmt: skip
    with quiet():
        hf.AutoModel.from_config(config).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    for layer in range(LAYERS):
        (found,) = source(tmp_path, layer=layer).embed(["0"])
        if layer < LAYERS - 1:
            assert torch.equal(found.rows["token"], expected_rows(tmp_path, TEXTS[0], layer))
    with pytest.raises(CheckpointError, match=rf"\({name}\) does not count hidden states .* by `layer: 0`"):
        source(tmp_path, hidden_state=1)


@pytest.mark.parametrize("layer", range(4))
def test_hybrid_of_linear_attention_and_attention(tmp_path: Path, layer: int) -> None:
    """Qwen3-Next, cut anywhere: three blocks of linear attention, one of attention."""
    config = hf.Qwen3NextConfig(
        **{**TEXT, "num_hidden_layers": 4}, num_key_value_heads=1, head_dim=8, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, num_experts=4, num_experts_per_tok=2, linear_num_key_heads=2,
        linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8, pad_token_id=0,
    )  # fmt: skip
    with quiet():
        hf.Qwen3NextForCausalLM(config).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    rows = source(tmp_path, layer=layer)
    for text, example in zip(TEXTS, IDS, strict=True):
        (found,) = rows.embed([example])
        if text and layer < 3:
            expected = expected_rows(tmp_path, text, layer + 1)
            torch.testing.assert_close(found.rows["token"], expected, rtol=1e-4, atol=1e-6)


SMALL = {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_head": 2, "d_head": 8, "d_inner": 32}
NOT_SHORTENED: dict[str, Callable[[], Any]] = {
    "funnel": lambda: hf.FunnelConfig(**SMALL, block_sizes=[1, 1, 1]),
    "longformer": lambda: hf.LongformerConfig(**{**TEXT, "num_hidden_layers": 3}, attention_window=8),
    "albert": lambda: hf.AlbertConfig(**TEXT, embedding_size=8),
    "gemma3": lambda: hf.Gemma3TextConfig(**{**GEMMA, "attn_logit_softcapping": None}),
}


@pytest.mark.parametrize(
    ("name", "place", "behind"),
    [
        ("funnel", {"layer": 0}, None), ("longformer", {"layer": 0}, None), ("albert", {"hidden_state": LAYERS}, ""),
        ("gemma3", {"hidden_state": LAYERS}, "`norm`"),
    ],
)  # fmt: skip
def test_models_that_are_made_otherwise(tmp_path: Path, name: str, place: dict[str, int], behind: str | None) -> None:
    """Fewer blocks that cannot be, blocks that share weights, a pad token of zeros: no traceback and no wrong norm."""
    with quiet():
        made = hf.FunnelModel if name == "funnel" else hf.AutoModel.from_config
        made(NOT_SHORTENED[name]()).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    try:
        rows = source(tmp_path, **place)
    except CheckpointError as error:
        assert behind is None and "Traceback" not in str(error)
    else:
        assert rows.final_norm == (behind or "")


@pytest.mark.parametrize("index", range(LAYERS + 1))
def test_hidden_states_of_a_model_that_fills_texts_up(tmp_path: Path, index: int) -> None:
    """Longformer: to multiples of its window; its blocks have more positions than its hidden states."""
    with quiet():
        hf.AutoModel.from_config(NOT_SHORTENED["longformer"]()).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    rows = source(tmp_path, hidden_state=index)
    assert rows.final_norm == ""
    (found,) = rows.embed(["0"])
    assert torch.equal(found.rows["token"], expected_rows(tmp_path, TEXTS[0], index))


@pytest.mark.parametrize(
    "case",
    long_but([("t5", True), ("umt5", False)], itertools.product(("t5", "umt5"), (True, False))),
    ids=lambda case: "-".join(map(str, case)),
)
def test_encoder_that_was_saved_alone(tmp_path: Path, case: tuple[str, bool]) -> None:
    """T5's encoder, whose configuration is that of both stacks; the last hidden state is behind its norm."""
    kind, said = case
    config, model = {"t5": (hf.T5Config, hf.T5EncoderModel), "umt5": (hf.UMT5Config, hf.UMT5EncoderModel)}[kind]
    with quiet():
        made = model(config(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=LAYERS, num_heads=2,
                            is_encoder_decoder=said)).eval()  # fmt: skip
        made.save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    encoded = Tokens(entry(tmp_path, "text")).encode(TEXTS[0])
    with torch.no_grad(), torch_threads(1):
        states = made(torch.tensor([encoded.ids]), output_hidden_states=True).hidden_states
    for index in range(LAYERS + 1):
        rows = source(tmp_path, hidden_state=index)
        (found,) = rows.embed(["0"])
        assert torch.equal(found.rows["token"], states[index][0, encoded.rows])
        assert rows.final_norm == ("`encoder.final_layer_norm`" if index == LAYERS else "")
    (last,) = source(tmp_path, layer=LAYERS - 1).embed(["0"])
    torch.testing.assert_close(made.encoder.final_layer_norm(last.rows["token"]), states[-1][0, encoded.rows])


def test_a_module_may_be_named(transformer: Models) -> None:
    """Here the second block's feed-forward output."""
    (found,) = source(transformer("llama"), module="layers.1.mlp").embed(["0"])
    encoded = Tokens(entry(transformer("llama"), "text")).encode(TEXTS[0])
    seen: list[Tensor] = []
    handle = full_model(transformer("llama")).layers[1].mlp.register_forward_hook(lambda _m, _i, out: seen.append(out))
    library_states(transformer("llama"), encoded.ids)
    handle.remove()
    assert torch.equal(found.rows["token"], seen[0][0, encoded.rows])


@pytest.mark.parametrize("name", NAMES)
def test_texts_that_go_together_keep_their_rows(transformer: Models, name: str) -> None:
    """Padding is masked and dropped: the rows of each text alone, up to the last bits."""
    rows = source(transformer(name))
    together = rows.embed(IDS)
    for example, found in zip(IDS, together, strict=True):
        (alone,) = rows.embed([example])
        for kind in ("token", "cls"):
            assert found.rows[kind].shape == alone.rows[kind].shape
            torch.testing.assert_close(found.rows[kind], alone.rows[kind], rtol=1e-4, atol=1e-4)
        assert (found.silent, found.n_cut) == (alone.silent, alone.n_cut)


@pytest.mark.parametrize("name", NAMES)
def test_cls_may_be_the_last_token(transformer: Models, name: str) -> None:
    """Of the text's own: what special tokens stand behind it gives no row."""
    rows = source(transformer(name), cls="last")
    for example in ("0", "2", "3"):
        (found,) = rows.embed([example])
        assert torch.equal(found.rows["cls"], found.rows["token"][-1:])
    (empty,) = rows.embed(["1"])
    assert tuple(empty.rows["cls"].shape) == (1, WIDTH) and empty.silent == {"cls"}


def test_where_cls_is_pooled_there_are_token_rows_for_it(transformer: Models) -> None:
    """And no row of its own: it is pooled from their codes."""
    for kinds in (("cls",), ("token", "cls")):
        (found,) = source(transformer("gpt2"), kinds=kinds, cls="pooled").embed(["0"])
        assert set(found.rows) == {"token"}


@pytest.mark.parametrize("name", NAMES)
def test_cls_may_be_the_mean_of_the_tokens(transformer: Models, name: str) -> None:
    """In float64, rounded once."""
    rows = source(transformer(name))
    for example in ("0", "2", "3"):
        (found,) = rows.embed([example])
        mean = found.rows["token"].double().mean(0, keepdim=True).float()
        assert torch.equal(found.rows["cls"], mean)
    assert (rows.rows_per_example("cls"), rows.rows_per_example("token")) == (1, None)


def test_empty_text_has_a_silent_cls_row_and_no_token(transformer: Models) -> None:
    """Also among others, and when all are empty."""
    rows = source(transformer("bert"), ["", "hello", ""])
    for ids in (["0"], ["0", "1", "2"], ["0", "2"]):
        for example, found in zip(ids, rows.embed(ids), strict=True):
            if example != "1":
                assert tuple(found.rows["token"].shape) == (0, WIDTH)
                assert not bool(found.rows["cls"].any())
                assert found.silent == {"cls"}
    (alone,) = source(transformer("bert"), [""], kinds=("token",)).embed(["0"])
    assert alone.silent == frozenset()


def test_only_the_wanted_token_kinds_are_given(transformer: Models) -> None:
    """One kind asked for is one kind given."""
    for kind in ("token", "cls"):
        (found,) = source(transformer("gpt2"), kinds=(kind,)).embed(["0"])
        assert set(found.rows) == {kind}


def test_max_tokens_cuts_rows_and_is_counted(transformer: Models) -> None:
    """The first rows of a causal model do not depend on what is cut."""
    (full,) = source(transformer("gpt2")).embed(["3"])
    (cut,) = source(transformer("gpt2"), max_tokens=3).embed(["3"])
    torch.testing.assert_close(cut.rows["token"], full.rows["token"][:3])
    assert (full.n_cut, cut.n_cut) == (0, len(full.rows["token"]) - 3)


def test_bos_changes_rows_but_not_their_number(transformer: Models) -> None:
    """Left out, a Gemma's rows are others, as many as before."""
    (with_bos,) = source(transformer("gemma2")).embed(["0"])
    (without,) = source(transformer("gemma2"), prepend_bos=False).embed(["0"])
    assert with_bos.rows["token"].shape == without.rows["token"].shape
    assert not torch.allclose(with_bos.rows["token"], without.rows["token"], atol=1e-3)


def test_gemma_runs_with_its_soft_cap(transformer: Models, tmp_path: Path) -> None:
    """Torch's own attention knows no soft cap; a model without it gives other rows, so that it is seen to count."""
    rows = source(transformer("gemma2"))
    assert rows._language._network.network.config._attn_implementation == "eager"
    (capped,) = rows.embed(["3"])
    folder = shutil.copytree(transformer("gemma2"), tmp_path / "model")
    with quiet():
        hf.Gemma2Config(**{**GEMMA, "attn_logit_softcapping": None}).save_pretrained(folder)
    (plain,) = source(folder).embed(["3"])
    assert not torch.allclose(capped.rows["token"], plain.rows["token"], atol=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_float32_rows_near_the_exact_ones(transformer: Models, precision: str) -> None:
    """Weights and forward pass in half precision; rows come out as float32."""
    (exact,) = source(transformer("gpt2")).embed(["3"])
    (rough,) = source(transformer("gpt2"), precision=precision).embed(["3"])
    assert rough.rows["token"].dtype == torch.float32
    assert not torch.equal(rough.rows["token"], exact.rows["token"])
    torch.testing.assert_close(rough.rows["token"], exact.rows["token"], rtol=0.1, atol=0.2)


def test_blocks_behind_the_place_are_not_read(transformer: Models) -> None:
    """Lists with an entry per block are cut with them."""
    network = source(transformer("gemma2"), layer=0)._language._network.network
    assert len(network.layers) == len(network.config.layer_types) == 1
    assert len(source(transformer("gpt2"), layer=1)._language._network.network.h) == 2


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"layer": 3}, r"has blocks 0\.\.2; `layer: 3`"),
        ({"hidden_state": 9}, r"has hidden states 0\.\.3; `hidden_state: 9`"),
        ({"module": "h.7"}, r"\(GPT2Model\) has no module `h\.7`\. Nearest: h\."),
    ],
)
def test_places_that_do_not_exist(transformer: Models, place: dict[str, Any], said: str) -> None:
    """Which places there are."""
    with pytest.raises(CheckpointError, match=said):
        source(transformer("gpt2"), **place)


def test_spans_are_the_rows(transformer: Models) -> None:
    """As many as rows, without any weights."""
    folder, reader = transformer("roberta"), GivenTexts(TEXTS)
    model = entry(folder, "text", max_tokens=4)
    spans = token_spans(reader, dataset(), model)
    ((kinds, rows),) = open_sources(reader, dataset(), model, ("token",), "cpu", "float32")
    assert kinds == ("token",)
    for example in IDS:
        (found,) = rows.embed([example])
        assert tuple(spans(example).shape) == (len(found.rows["token"]), 2)
        assert spans(example).dtype == torch.int64


def test_without_any_transformer_nothing_says_what_tokens_are() -> None:
    """Neither a tokenizer nor embeddings."""
    model = entry(Path("nowhere"), "text").model_copy(update={"transformer": None})
    with pytest.raises(CatalogError, match=r"'tiny' has no transformer .*`embeddings\.tiny`"):
        token_spans(GivenTexts(TEXTS), dataset(), model)


def dataset() -> Any:
    from sae_assets.catalog import Dataset

    return Dataset(root=".", layout="spans", modality="text", concepts=("joy",), models=("tiny",)).named("texts")
