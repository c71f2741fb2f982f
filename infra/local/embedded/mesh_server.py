"""Serves the MESH sandbox on a port of the loopback address: `python mesh_server.py PORT`; see mesh.py for its environment."""

import logging
import sys
import warnings

import uvicorn

warnings.simplefilter("ignore")  # its own, dozens, about its web framework

from mesh_sandbox import dependencies  # noqa: E402 - after the line above
from mesh_sandbox.api import app  # noqa: E402 - as above

# Headers of MESH can name people: no access log, and of the sandbox's own log only what went wrong.
logging.getLogger("mesh-sandbox").setLevel(logging.WARNING)


def make_store() -> None:
    """Once, before anybody asks: made by two first requests at once it is two stores, and what the one took in is lost."""
    dependencies.get_messaging()


if __name__ == "__main__":
    make_store()
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
