"""The errors a user can meet. Each says what was found, what was expected and what to do.

They inherit the fitting built-in, so that ``except ValueError`` works as anyone expects. Problems of one file are
collected and raised together. ``assert`` elsewhere is for our own invariants only.
"""

import re
from collections.abc import Sequence
from typing import ClassVar


class SaeAssetsError(Exception):
    """Base of every error raised on purpose by this package.

    Args:
        message: one sentence: what was found, what was expected.
        problems: all single problems found, one line each; shown below the message.

    Attributes:
        of_data: whether the data of one chunk are at fault, so that other chunks are worth trying.
    """

    of_data: ClassVar[bool] = False

    def __init__(self, message: str, problems: Sequence[str] = ()):
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


class CatalogError(SaeAssetsError, ValueError):
    """The catalog (YAML) is wrong, or a name is not in it."""


class DatasetError(SaeAssetsError, ValueError):
    """A data set's files do not have the layout that its catalog entry names."""

    of_data = True


class UnreadableDatasetError(DatasetError):
    """A data set cannot be opened at all, so that no chunk of it can be made."""

    of_data = False


class CheckpointError(SaeAssetsError, ValueError):
    """A transformer's or SAE's checkpoint has other keys, shapes or widths than its format promises."""


class ArtifactError(SaeAssetsError, ValueError):
    """An artifact breaks one of its invariants, or an op was given inputs that have no answer."""


class StoredFileError(SaeAssetsError, OSError):
    """A stored file is missing, damaged, or of a schema that this version does not read."""

    of_data = True


class NewerFileError(StoredFileError):
    """A stored file says that a newer version wrote it; this one writes nothing in its place."""


class HistoryError(SaeAssetsError, OSError):
    """Dagster's history of a home cannot be opened, read or written: damaged, locked, or on a disk that is full."""


class NotMaterializedError(StoredFileError):
    """A stored file is asked for that nothing has made yet."""

    of_data = False


class MismatchError(SaeAssetsError, RuntimeError):
    """Two inputs were made from different things (model, mapping, examples) and must not be combined."""


class MissingChunksError(SaeAssetsError, LookupError):
    """An aggregate was asked for while chunks it needs have not been materialized."""


class DetectorError(SaeAssetsError, ValueError):
    """A detector's files are damaged or foreign, do not fit the models on this machine, or cannot be made."""


class DeviceError(SaeAssetsError, RuntimeError):
    """The device asked for does not exist here."""


def without_class_path(message: str) -> str:
    """A message as its error said it: Dagster puts ``sae_assets.errors.DatasetError:`` and the like before it."""
    return re.sub(r"\bsae_assets(\.\w+)+Error: ", "", message)
