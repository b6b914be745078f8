"""The check of shapes in signatures of ``ops``: beartype's, as jaxtyping's import hook has it, at less of its cost.

jaxtyping asks for two checks of each function when it is defined: of its arguments, and of them again with what comes
back. Made by beartype that takes milliseconds, in every process that imports ``ops`` and for a function within another
at each call of the latter.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

_made: dict[tuple[Any, ...], Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A check that is made when it is first needed, once for a function that is defined again and again.

    The second of the two is of what comes back alone: the first has seen the arguments, and remembers the sizes of
    their dimensions. It is told by what it returns, which the first leaves open.
    """
    annotations = function.__annotations__
    if annotations.get("return", Any) is not Any:
        function.__annotations__ = {"return": annotations["return"]}
    key = function.__module__, function.__qualname__, function.__code__, *function.__annotations__.items()

    def check(*args: Any, **kwargs: Any) -> Any:
        made = _made.get(key)
        if made is None:
            made = _made[key] = beartype(function)
        return made(*args, **kwargs)

    return check
