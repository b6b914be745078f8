"""Layouts, SAE formats and model libraries describe themselves, and stand in the tables here.

A layout or a format is a module, a library is a package, and standing in the right package is all the registration
there is: the tables import what stands there by name, when a catalog is first checked, and take its descriptor. So a
new one is one file. Heads of these modules import neither torch nor PIL nor pyarrow. What is done with a descriptor is
not said here.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sae_assets.catalog.models import Model, Transformer


@dataclass(frozen=True)
class Layout:
    """A layout says how a data set lies on disk: ``LAYOUT`` of a module of ``sae_assets.datasets.layouts``.

    Attributes:
        name: as the catalog calls it.
        modalities: ``image``, ``text`` or both.
        expected: what stands at ``root``, for messages ("a folder with …").
        open: gives the ``Reader`` of a catalog entry; where ``lenient`` is set, it takes ``lenient=True`` and then
            leaves out rows that are wrong.
        takes: which of ``annotations``, ``columns``, ``labels``, ``separator`` and ``colour-difference`` (masks) the
            layout makes use of; other layouts refuse them.
        located: when the layout says where concepts are, for the documents.
        split_place: where an example says which split it is in, for messages; ``{column!r}`` is the split's column.
    """

    name: str
    modalities: tuple[str, ...]
    expected: str
    open: Callable[..., Any]
    takes: tuple[str, ...] = ()
    located: str = "never"
    split_place: str = "in column 'split' of metadata.csv"
    lenient: bool = False


@dataclass(frozen=True)
class SaeFormat:
    """A format of SAE checkpoints: ``FORMAT`` of a module of ``sae_assets.saes.formats``.

    Attributes:
        name: as the catalog calls it.
        read: gives the ``Checkpoint`` of the file or folder.
        files: of a format that is a folder the files in it, settings first; empty where it is one file of any name.
        single: the one file that may stand in place of ``files``, if there is such a variant.
        by_l0: whether it is published once per average L0, in folders ``average_l0_<number>``.
        decoder: gives the ``Decoder`` of the file or folder, from its place, the device and the memory budget in bytes;
            None of a format whose decoder is not read.
    """

    name: str
    read: Callable[[Path], Any]
    files: tuple[str, ...] = ()
    single: str | None = None
    by_l0: bool = False
    decoder: Callable[[Path, Any, int], Any] | None = None


def _nowhere(transformer: "Transformer") -> Path | None:
    """The location is unknown, so that what is read from it is not kept for the next chunk."""


def _no_properties(model: "Model") -> Sequence[Any]:
    """Return nothing: a library need not say anything of its models."""
    return ()


def _any_transformer(transformer: "Transformer") -> None:
    """Nothing to say against it."""


def _any_model(model: "Model") -> None:
    """Nothing to say against it."""


@dataclass(frozen=True)
class Library:
    """A library of transformers: ``LIBRARY`` of a package in ``sae_assets.rows``. What it cannot do is left None.

    Attributes:
        name: as the catalog calls it.
        identity: what names a transformer in fingerprints, as plain values.
        geometry: an image model's ``Geometry``, without its weights.
        vision: an image model's ``Vision``, from the model's entry, the device and the precision.
        tokens: a text model's ``Tokenizer``, without the model's weights.
        language: a text model's ``Language``, from the model's entry, the device and the precision.
        doubt_of_texts: what is to be said where a text model, from its entry, makes nothing of these texts; else empty.
        properties: what a model, from its entry, is used with and its files say (``rows.properties.Property``).
        located: the file or folder on this machine that a transformer of the hub is read from; None before it is there.
        check_transformer, check_model: raise ValueError where an entry of the catalog says what the library cannot do.
    """

    name: str
    identity: "Callable[[Transformer], dict[str, Any]]"
    geometry: "Callable[[Transformer], Any] | None" = None
    vision: "Callable[[Model, Any, str], Any] | None" = None
    tokens: "Callable[[Model], Any] | None" = None
    language: "Callable[[Model, Any, str], Any] | None" = None
    doubt_of_texts: "Callable[[Model, Sequence[str]], str] | None" = None
    properties: "Callable[[Model], Sequence[Any]]" = _no_properties
    located: "Callable[[Transformer], Path | None]" = _nowhere
    check_transformer: "Callable[[Transformer], None]" = _any_transformer
    check_model: "Callable[[Model], None]" = _any_model

    @property
    def modalities(self) -> tuple[str, ...]:
        """``image``, ``text`` or both."""
        return (*(("image",) if self.vision else ()), *(("text",) if self.language else ()))


Descriptor = TypeVar("Descriptor", Layout, SaeFormat, Library)


def _table(package: str, attribute: str, kind: type[Descriptor], *, packages: bool = False) -> Mapping[str, Descriptor]:
    """Return by name the descriptors of the modules (or packages) in a package, in the order of the modules' names."""
    folder = importlib.import_module(package).__path__
    names = [info.name for info in pkgutil.iter_modules(folder) if info.ispkg == packages]
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    descriptors = [value for module in modules if isinstance(value := getattr(module, attribute, None), kind)]
    return MappingProxyType({descriptor.name: descriptor for descriptor in descriptors})


@cache
def layouts() -> Mapping[str, Layout]:
    """Return all layouts by name."""
    return _table("sae_assets.datasets.layouts", "LAYOUT", Layout)


@cache
def formats() -> Mapping[str, SaeFormat]:
    """Return all formats of SAE checkpoints by name."""
    return _table("sae_assets.saes.formats", "FORMAT", SaeFormat)


@cache
def libraries() -> Mapping[str, Library]:
    """Return all model libraries by name."""
    return _table("sae_assets.rows", "LIBRARY", Library, packages=True)


def one_of(table: Callable[[], Mapping[str, Any]]) -> Callable[[str], str]:
    """Return a check that a value is a name of the table, which is read when the first value is checked."""

    def check(value: str) -> str:
        if value not in table():
            *others, last = map(repr, table())
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return value

    return check
