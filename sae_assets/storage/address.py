"""Every file lies at ``<root>/<dataset>/<token_kind>/<model>/<stage>/<chunk>.<ext>``.

Model-level files are named ``all``; ``examples``, ``labels`` and manifests, which no model has made, lie directly under
the data set. Every part is checked: a name from outside never becomes a path as it is.
"""

import re
from dataclasses import dataclass

from upath import UPath

from sae_assets.errors import StoredFileError

_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
MODEL_LEVEL = "all"


@dataclass(frozen=True)
class Address:
    """An address is of an artifact: a stage of a data set, with token kind, model and chunk where they apply."""

    dataset: str
    stage: str
    token_kind: str | None = None
    model: str | None = None
    chunk: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.dataset, self.token_kind, self.model, self.stage, self.chunk) if part)

    def parts(self) -> tuple[str, ...]:
        """Return folders and file stem.

        Raises:
            StoredFileError: a part that is not a plain name.
        """
        parts = [
            self.dataset,
            self.token_kind,
            self.model,
            self.stage,
            MODEL_LEVEL if self.chunk is None else self.chunk,
        ]
        named = tuple(part for part in parts if part is not None)
        for part in named:
            if not _PART.match(part) or ".." in part:
                raise StoredFileError(f"{part!r} is not a plain name; letters, digits, '_', '-' and '.' are allowed.")
        return named

    @property
    def making(self) -> str:
        """Return the command that makes what is missing up to this artifact, its inputs among it."""
        return f"{self._command} --to {self.stage}"

    @property
    def remaking(self) -> str:
        """Return the command that makes this artifact alone again, also where its header still says that it is
        current."""
        chunk = f" --chunks {self.chunk}" if self.chunk else ""
        return f"{self._command} --from {self.stage} --to {self.stage}{chunk} --force"

    @property
    def importing(self) -> str:
        """Return the command that imports this artifact's rows again; a person puts a file in the place of FILE."""
        return f"sae-assets import FILE --dataset {self.dataset} --model {self.model} --token-kind {self.token_kind}"

    @property
    def _command(self) -> str:
        options = (("-d", self.dataset), ("-m", self.model), ("--token-kind", self.token_kind))
        return " ".join(["sae-assets materialize", *(f"{option} {value}" for option, value in options if value)])


def address_at(root: UPath, path: UPath) -> Address | None:
    """Return the address whose file this is; None where it is none of the store's."""
    try:
        *folders, stage, _ = path.relative_to(root).parts
    except ValueError:
        return None
    chunk = None if path.stem == MODEL_LEVEL else path.stem
    if len(folders) == 1:
        return Address(folders[0], stage, chunk=chunk)
    return Address(folders[0], stage, folders[1], folders[2], chunk) if len(folders) == 3 else None


def path_of(root: UPath, address: Address, extension: str) -> UPath:
    *folders, stem = address.parts()
    return root / "/".join((*folders, f"{stem}.{extension}"))  # a third of what joining part by part takes
