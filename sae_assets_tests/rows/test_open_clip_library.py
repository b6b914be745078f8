"""open_clip is imported without libraries that nothing here uses, and whoever needs them has them."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from sae_assets.rows.open_clip.library import (
    COMPILER,
    LATER,
    UTILS,
    LoadedLater,
    _compiler_put_off,
    _libraries_put_off,
    is_compile_supported,
)

TOWERS = """
import sys
import torch
from sae_assets.rows.open_clip.library import LATER, library
lacking = "lacking" in sys.argv  # names that another version of open_clip takes
if lacking:
    LATER["timm.layers"] = LATER["transformers"] = ()
open_clip = library()
assert bool({"timm", "transformers"} & {*sys.modules}) is lacking
vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 32}
text = {"hf_model_name": sys.argv[1], "hf_model_pretrained": False, "hf_pooler_type": "cls_pooler"}
model = open_clip.CustomTextCLIP(8, vision, text)
assert {"timm", "transformers"} <= {*sys.modules}
import timm, transformers
assert isinstance(model.text.transformer, transformers.BertModel)
assert isinstance(model.visual.trunk, timm.models.VisionTransformer)
print(tuple(model.encode_text(torch.ones(2, 5, dtype=torch.int64)).shape))
"""


def test_what_stands_in_for_the_compiler_answers_as_it_does() -> None:
    import torch._dynamo.utils as compiler

    assert [is_compile_supported(device) for device in ("cpu", "meta")] == [
        compiler.is_compile_supported(device) for device in ("cpu", "meta")
    ]


def test_the_stand_in_makes_way_for_the_compiler_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (COMPILER, UTILS):
        monkeypatch.delitem(sys.modules, name, raising=False)
    finders = [*sys.meta_path]
    for needed in (True, False):
        with _compiler_put_off():
            assert sys.modules[UTILS].is_compile_supported is is_compile_supported
            if needed:  # somebody's import begins
                sys.meta_path[0].find_spec(COMPILER, None)
                assert UTILS not in sys.modules
        assert UTILS not in sys.modules
        assert sys.meta_path == finders


def test_libraries_have_what_stands_in_for_it_and_a_loaded_one_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {module: importlib.import_module(module) for module in LATER}
    with _libraries_put_off():
        assert {module: sys.modules[module] for module in LATER} == libraries
    for module in LATER:
        monkeypatch.delitem(sys.modules, module)
    with _libraries_put_off():
        for module, names in LATER.items():
            assert sys.modules[module] is not libraries[module]
            assert all(isinstance(getattr(sys.modules[module], name), LoadedLater) for name in names)
        with pytest.raises(ImportError):
            from transformers import LogitsProcessorList  # noqa: F401 - no name of those that stand in
    assert not {*LATER} & {*sys.modules}
    assert all(hasattr(libraries[module], name) for module, names in LATER.items() for name in names)


def test_what_is_loaded_later_is_called_asked_and_an_instance_of() -> None:
    later = LoadedLater("fractions", "Fraction")
    from fractions import Fraction

    assert later(1, 2) == Fraction(1, 2) and later.from_float(0.5) == Fraction(1, 2)
    assert isinstance(Fraction(1, 2), later) and not isinstance(0.5, later)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        LoadedLater("fractions", "Fiction")()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("names", ["there", "lacking"])
def test_towers_of_the_libraries_that_were_put_off_are_built(tmp_path: Path, names: str) -> None:
    """In a process of its own, which has loaded nothing yet."""
    from transformers import BertConfig

    BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    ).save_pretrained(tmp_path)
    line = [sys.executable, "-c", TOWERS, str(tmp_path), names]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "(2, 8)\n"), result.stderr
