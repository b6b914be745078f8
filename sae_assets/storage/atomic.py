"""Writes that happen whole or not at all.

Locally: a temporary file in the same folder, fsync, rename. On an object store: one upload of finished bytes, which
the store makes visible as a whole. A killed run leaves at most a ``.tmp-`` file, which nothing reads; its name says
whose it is.
"""

import os
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

from upath import UPath

from sae_assets.storage.processes import is_alive

TEMPORARY_PREFIX = ".tmp-"
_WRITER = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{32}")
OLD_SECONDS = 24 * 3600.0  # of a temporary file whose writer cannot be asked for
CLOCKS_APART_SECONDS = 600.0  # at most, of a file server and of who writes there


def is_local(path: UPath) -> bool:
    return path.protocol in ("", "file", "local")


Content = bytes | Callable[[BinaryIO], None]  # or what writes it, a piece at a time


def write_atomically(path: UPath, content: Content) -> None:
    """Write ``content`` to ``path``, replacing what was there in one step.

    Raises:
        OSError: as the file system gives it (no space, no permission), naming the file; the old one, if any, is
            untouched.
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
    temporary = path.parent / f"{TEMPORARY_PREFIX}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    try:
        with open(temporary.path, "w+b") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary.path, path.path)
    except FileExistsError:
        raise
    except OSError as error:  # a full disk names no file, and a temporary name tells nobody anything
        if error.errno is None or not (error.filename is None or TEMPORARY_PREFIX in str(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, path.path) from None
    finally:
        if os.path.exists(temporary.path):
            os.unlink(temporary.path)
    folder = os.open(path.parent.path, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself survives a power cut
    finally:
        os.close(folder)


def leftovers(root: UPath) -> Iterator[UPath]:
    """Yield temporary files under a folder that nobody writes any more: their process is gone, or they are a day
    old."""
    if not is_local(root) or not root.exists():  # object stores get finished bytes only
        return
    for path in root.rglob(f"{TEMPORARY_PREFIX}*"):
        try:
            changed_at = path.stat().st_mtime
        except FileNotFoundError:  # its writer has ended meanwhile
            continue
        writer = _WRITER.fullmatch(path.name)
        if writer is not None and writer["host"] == socket.gethostname():
            gone = not is_alive(int(writer["pid"]), changed_at + CLOCKS_APART_SECONDS)
        else:
            gone = time.time() - changed_at > OLD_SECONDS
        if gone:
            yield path


def remove_leftovers(root: UPath) -> None:
    """Remove what killed processes left of half-written files under a folder, as far as that is allowed."""
    with suppress(OSError):  # tidying up ends nobody's work
        for path in leftovers(root):
            with suppress(OSError):
                path.unlink()
