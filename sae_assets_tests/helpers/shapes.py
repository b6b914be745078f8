"""The check of shapes in signatures of ``ops``: beartype's, as jaxtyping's import hook has it, at less of its cost.

jaxtyping asks for two checks of each function when it is defined: of its arguments, and of them again with what comes
back. Made by beartype that takes milliseconds, in every process that imports ``ops`` and for a function within another
at each call of the latter. Each check takes longer than most of the operations that a function is of, and says again
what it said of the same types and shapes.
"""

import functools
import inspect
import threading
import types
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from jaxtyping import config

import sae_assets

NAMES = "from jaxtyping import"
PLAIN = {int, float, bool, type(None)}  # of which annotations ask for the type alone
_made: dict[tuple[Any, ...], Callable[..., Any]] = {}
_seen: dict[tuple[Any, ...], dict[Any, set[Any]]] = {}


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
            from beartype import beartype

            key = _identity(function)
            made = _made[key] = _made.get(key) or beartype(function)
        return made(*args, **kwargs)

    return check


def remembering(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """Return jaxtyping's decorator such that a function is checked once for each combination of types and shapes.

    An annotation tells no two calls apart whose arguments have the same types, dtypes, sizes and texts: none names a
    size by the value of an argument (``{n}``). What comes back is checked wherever it differs in them. The check is
    made at the first call: where shapes are not checked, none is.
    """

    def decorate(function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
        if function is None:
            return functools.partial(decorate, typechecker=typechecker)
        if not inspect.isfunction(function):
            return jaxtyped(function, typechecker=typechecker)
        return _remembered(function, jaxtyped(typechecker=typechecker))

    return decorate


def _remembered(function: Callable[..., Any], jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    seen = _seen.setdefault(_identity(function), {})
    computed = threading.local()

    def compute(*args: Any, **kwargs: Any) -> Any:
        return computed.__dict__.pop("result") if computed.__dict__ else function(*args, **kwargs)

    @functools.cache
    def check() -> Callable[..., Any]:
        # Annotations that are texts are read among the names of the function's own module.
        named = types.FunctionType(compute.__code__, function.__globals__, closure=compute.__closure__)
        made: Callable[..., Any] = jaxtyped(functools.update_wrapper(named, function))
        return made

    @functools.wraps(function)
    def remembered(*args: Any, **kwargs: Any) -> Any:
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        key = tuple([_key(arg) for arg in args]), tuple([(name, _key(kwargs[name])) for name in kwargs])
        if key not in seen:
            result = check()(*args, **kwargs)
            seen[key] = {_key(result)}
            return result
        result = function(*args, **kwargs)
        if (returned := _key(result)) not in seen[key]:
            computed.result = result
            check()(*args, **kwargs)
            seen[key].add(returned)
        return result

    return remembered


def _identity(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return what a function that is defined again and again, within another, has in common each time."""
    return function.__module__, function.__qualname__, function.__code__, *function.__annotations__.items()


@functools.cache
def _arrays() -> tuple[type, ...]:
    """Classes of arrays. Whoever hands tests to other processes reads this module too, and needs no torch."""
    import numpy as np
    from torch import Tensor

    return Tensor, np.ndarray


def _key(value: Any) -> Any:
    """Return all of a value that an annotation can ask for."""
    kind = type(value)
    if isinstance(value, _arrays()):
        return kind, value.dtype, value.shape
    if kind in PLAIN:
        return kind
    if isinstance(value, str | type):
        return kind, value
    if isinstance(value, tuple) or kind is list:
        return kind, *map(_key, value)
    return object() if isinstance(value, Collection) else kind  # others are not gone through, and never remembered


def modules_with_shapes() -> list[str]:
    """Modules of ``ops`` that name shapes: checking the others, each call goes through some, would tell nothing."""
    ops = Path(sae_assets.__file__).parent / "ops"
    parts = [path.relative_to(ops).with_suffix("").parts for path in ops.rglob("*.py") if NAMES in path.read_text()]
    return [".".join(("sae_assets", "ops", *part)) for part in sorted(parts)]
