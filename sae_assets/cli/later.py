"""Commands whose options are declared when they are called, so that ``--help`` and all others need not load them."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperCommand


class Later(TyperCommand):
    """A command that is declared by a function without arguments: its docstring is the help, and it gives the command.

    What it gives is the function whose arguments are the options, as any other command's.
    """

    def __init__(self, *, callback: Callable[[], Callable[..., None]], **extra: Any):
        super().__init__(callback=callback, **extra)
        self._declared = callback

    @cached_property
    def declared(self) -> Any:
        """Return the command with its options."""
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(self.name, help=self.help, context_settings={**self.context_settings})(self._declared())
        return typer.main.get_command(single)

    def make_context(self, *arguments: Any, **extra: Any) -> Any:
        """Return the context of the command with its options: that is what is parsed, helped with and called."""
        return self.declared.make_context(*arguments, **extra)
