"""Entry point of the launcher:  python -m deploy.local"""

import sys

from deploy.local.launcher import main

if __name__ == "__main__":
    sys.exit(main())
