"""The peers' own Python environment under build/, installed again when its requirements change."""

import subprocess
import sys
from pathlib import Path

from tests.bench.measurement import ROOT, print_progress

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
HOME = ROOT / "build" / "peers"
BIN = HOME / ".venv" / "bin"


def install() -> Path:
    """Install the environment unless it is up to date; return the folder of its programs."""
    requirements, marker = REQUIREMENTS.read_text(), HOME / "installed.txt"
    if not marker.exists() or marker.read_text() != requirements:
        print_progress("peers: installing them")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME / ".venv")], check=True)
        subprocess.run([str(BIN / "pip"), "install", "--quiet", "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
        marker.write_text(requirements)
    return BIN
