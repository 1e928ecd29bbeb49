"""Entry point of the steward:  python -m worker.steward"""

import sys

from shared.command_line import check_arguments
from worker.steward.app import main

if __name__ == "__main__":
    check_arguments(
        "worker.steward", "Run a steward, which looks for lost jobs and deletes old results, until SIGTERM."
    )
    sys.exit(main())
