"""Serve the MESH sandbox on a loopback port: `python mesh_server.py PORT`; mesh.py sets its environment."""

import logging
import sys
import warnings

import uvicorn

warnings.simplefilter("ignore")  # the sandbox's deprecation warnings about its web framework

from mesh_sandbox import dependencies  # noqa: E402 - after the line above
from mesh_sandbox.api import app  # noqa: E402 - as above

# MESH headers can contain names of people: no access log, and only warnings of the sandbox's own log.
logging.getLogger("mesh-sandbox").setLevel(logging.WARNING)


def make_store() -> None:
    """Create the store before the first request: two concurrent first requests would create two, and lose messages."""
    dependencies.get_messaging()


if __name__ == "__main__":
    make_store()
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
