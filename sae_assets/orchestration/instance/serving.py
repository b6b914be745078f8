"""``python -m`` of this module is ``dagster dev``, with the same arguments, and with our webserver.

What a script starts in the background ignores Ctrl-C, and Dagster would take SIGTERM for the same; here both end it.
"""

import signal
import sys

from sae_assets.orchestration.internals import serve

WEBSERVER = "sae_assets.orchestration.instance.webserver"

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(sys.argv[1:], WEBSERVER)
