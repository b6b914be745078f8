"""The check of shapes in signatures of ``ops``: beartype's, as jaxtyping's import hook has it, at less of its cost.

jaxtyping asks for two checks of each function when it is defined: of its arguments, and of them again with what comes
back. Made by beartype that takes milliseconds, in every process that imports ``ops`` and for a function within another
at each call of the latter.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from beartype import beartype

import sae_assets

NAMES = "from jaxtyping import"
_made: dict[tuple[Any, ...], Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A check that is made when it is first needed, once for a function that is defined again and again.

    The second of the two is of what comes back alone: the first has seen the arguments, and remembers the sizes of
    their dimensions. It is told by what it returns, which the first leaves open.
    """
    annotations = function.__annotations__
    if annotations.get("return", Any) is not Any:
        function.__annotations__ = {"return": annotations["return"]}
    made: Callable[..., Any] | None = None

    def check(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        if made is None:
            key = function.__module__, function.__qualname__, function.__code__, *function.__annotations__.items()
            made = _made[key] = _made.get(key) or beartype(function)
        return made(*args, **kwargs)

    return check


def modules_with_shapes() -> list[str]:
    """Modules of ``ops`` that name shapes: checking the others, each call goes through some, would tell nothing."""
    ops = Path(sae_assets.__file__).parent / "ops"
    parts = [path.relative_to(ops).with_suffix("").parts for path in ops.rglob("*.py") if NAMES in path.read_text()]
    return [".".join(("sae_assets", "ops", *part)) for part in sorted(parts)]
