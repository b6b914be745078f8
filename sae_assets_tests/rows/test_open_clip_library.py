"""open_clip is imported without torch's compiler, and whoever needs that has it."""

import sys

import pytest
import torch

from sae_assets.rows.open_clip.library import COMPILER, UTILS, _compiler_put_off, is_compile_supported


def plain() -> None: ...


def test_what_stands_in_for_the_compiler_answers_as_it_does() -> None:
    import torch._dynamo.utils as compiler

    assert [is_compile_supported(device) for device in ("cpu", "meta")] == [
        compiler.is_compile_supported(device) for device in ("cpu", "meta")
    ]


def test_the_stand_in_makes_way_for_the_compiler_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (COMPILER, UTILS):
        monkeypatch.delitem(sys.modules, name, raising=False)
    disable, finders = torch.compiler.disable, [*sys.meta_path]
    for needed in (True, False):
        with _compiler_put_off():
            assert sys.modules[UTILS].is_compile_supported is is_compile_supported
            assert torch.compiler.disable(plain, reason="…").__wrapped__ is plain  # and loads nothing
            assert COMPILER not in sys.modules
            if needed:  # somebody's import begins
                sys.meta_path[0].find_spec(COMPILER, None)
                assert UTILS not in sys.modules
        assert UTILS not in sys.modules
        assert torch.compiler.disable is disable and sys.meta_path == finders
