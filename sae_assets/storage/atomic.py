"""Writes that happen whole or not at all.

Locally: a temporary file in the same folder, fsync, rename. On an object store: one upload of finished bytes, which
the store makes visible as a whole. A killed run leaves at most a ``.tmp-`` file, which nothing reads.
"""

import os
import uuid

from upath import UPath

TEMPORARY_PREFIX = ".tmp-"


def is_local(path: UPath) -> bool:
    return path.protocol in ("", "file", "local")


def write_atomically(path: UPath, content: bytes) -> None:
    """Write ``content`` to ``path``, replacing what was there in one step.

    Raises:
        OSError: as the file system gives it (no space, no permission); the old file, if any, is untouched.
    """
    if not is_local(path):
        path.fs.pipe_file(path.path, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        with open(temporary.path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary.path, path.path)
    except BaseException:
        if os.path.exists(temporary.path):
            os.unlink(temporary.path)
        raise
    folder = os.open(path.parent.path, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself survives a power cut
    finally:
        os.close(folder)
