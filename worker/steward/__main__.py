"""Entry point of the steward:  python -m worker.steward"""

import sys

from worker.steward.app import main

if __name__ == "__main__":
    sys.exit(main())
