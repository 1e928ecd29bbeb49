"""The peers' own Python environment, under build/, made anew whenever its requirements change."""

import subprocess
import sys
from pathlib import Path

from tests.bench.measuring import ROOT, progress

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
HOME = ROOT / "build" / "peers"
BIN = HOME / ".venv" / "bin"


def ready() -> Path:
    """Return the folder of the environment's programs, installed first if need be."""
    wanted, mark = REQUIREMENTS.read_text(), HOME / "installed.txt"
    if not mark.exists() or mark.read_text() != wanted:
        progress("peers: installing them")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME / ".venv")], check=True)
        subprocess.run([str(BIN / "pip"), "install", "--quiet", "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
        mark.write_text(wanted)
    return BIN
