"""Run `python -m tests.chaos`."""

import logging
import sys

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the harness's own clients are affected by the faults, too

try:
    from tests.chaos.harness.command import main

    sys.exit(main())
except KeyboardInterrupt:  # during the imports
    sys.exit(130)
