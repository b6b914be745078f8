"""Run by the reference environment's interpreter, not by pytest: runs scripts that ask the libraries.

All of them import SAELens, and with it torch and transformers, which takes longer than what they ask: here it is done
once. Each line that is given is a JSON list of a script and its arguments, which run in a child of this process; the
answer is a line with its exit code and all that it printed. Nothing of this package is imported.
"""

import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
from typing import BinaryIO

import sae_lens  # noqa: F401

MOST_SECONDS = 300


def work(script: str, arguments: list[str], output: BinaryIO) -> int:
    """A script as Python runs it, in this process; its exit code."""
    signal.alarm(MOST_SECONDS)  # which kills
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


for line in sys.stdin:
    script, *arguments = json.loads(line)
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if not pid:
            code = work(script, arguments, output)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        print(json.dumps([code, output.read().decode(errors="replace")]), flush=True)
