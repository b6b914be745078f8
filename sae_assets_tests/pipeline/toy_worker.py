"""A worker that executes nothing: each run ends when the file that its message names is there."""

import json
import sys
from multiprocessing.connection import Connection
from pathlib import Path

if __name__ == "__main__":
    channel = Connection(int(sys.argv[1]))
    while text := channel.recv_bytes():
        while not Path(json.loads(text)["until"]).exists():
            if channel.poll(0.01):  # told to end, or the pool is gone
                sys.exit()
        channel.send_bytes(json.dumps({"finished": True, "stays": True}).encode())
