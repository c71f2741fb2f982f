"""`python -m tests.chaos`"""

import logging
import sys

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients meet the faults too

try:
    from tests.chaos.harness.command import main

    sys.exit(main())
except KeyboardInterrupt:  # while everything was still being imported
    sys.exit(130)
