"""Entry point of the renderer:  python -m worker.renderer"""

import sys

from worker.renderer.app import main

if __name__ == "__main__":
    sys.exit(main())
