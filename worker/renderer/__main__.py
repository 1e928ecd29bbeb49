"""Entry point of the renderer:  python -m worker.renderer"""

import sys

from shared.command_line import check_arguments
from worker.renderer.app import main

if __name__ == "__main__":
    check_arguments("worker.renderer", "Run a renderer, which makes files and recuts on demand, until SIGTERM.")
    sys.exit(main())
