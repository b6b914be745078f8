"""A worker that executes nothing: each run ends when the file that its message names is there."""

import json
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

if __name__ == "__main__":
    channel = Connection(int(sys.argv[1]))
    while text := channel.recv_bytes():
        while not Path(json.loads(text)["until"]).exists():
            time.sleep(0.01)
        channel.send_bytes(json.dumps({"finished": True, "stays": True}).encode())
