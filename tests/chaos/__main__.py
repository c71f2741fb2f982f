"""`python -m tests.chaos`"""

import sys

try:
    from tests.chaos.run import main

    sys.exit(main())
except KeyboardInterrupt:  # while everything was still being imported
    sys.exit(130)
