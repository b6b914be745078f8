"""Writes that happen whole or not at all.

Locally: a temporary file in the same folder, fsync, rename. On an object store: one upload of finished bytes, which
the store makes visible as a whole. A killed run leaves at most a ``.tmp-`` file, which nothing reads.
"""

import os
import tempfile
import uuid
from collections.abc import Callable
from typing import BinaryIO, cast

from upath import UPath

TEMPORARY_PREFIX = ".tmp-"


def is_local(path: UPath) -> bool:
    return path.protocol in ("", "file", "local")


Content = bytes | Callable[[BinaryIO], None]  # or what writes it, a piece at a time


def write_atomically(path: UPath, content: Content) -> None:
    """Write ``content`` to ``path``, replacing what was there in one step.

    Raises:
        OSError: as the file system gives it (no space, no permission); the old file, if any, is untouched.
    """
    if is_local(path):
        _write(path, content, os.replace)
    elif isinstance(content, bytes):
        path.fs.pipe_file(path.path, content)
    else:
        with tempfile.NamedTemporaryFile(prefix="sae-assets-") as file:
            content(cast(BinaryIO, file))
            file.flush()
            path.fs.put_file(file.name, path.path)


def write_once(path: UPath, content: bytes) -> bool:
    """Write ``content`` to ``path`` unless something is there; False if something is.

    Locally no two writers can both succeed. Object stores are asked first, which leaves a moment between.

    Raises:
        OSError: as the file system gives it.
    """
    if not is_local(path):
        if path.exists():
            return False
        path.fs.pipe_file(path.path, content)
        return True
    try:
        _write(path, content, os.link)  # unlike a rename, a link refuses to replace
    except FileExistsError:
        return False
    return True


def _write(path: UPath, content: Content, publish: Callable[[str, str], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        with open(temporary.path, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary.path, path.path)
    finally:
        if os.path.exists(temporary.path):
            os.unlink(temporary.path)
    folder = os.open(path.parent.path, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself survives a power cut
    finally:
        os.close(folder)
