"""The small model that comes with the code: weights, configuration, and the recipe that made them."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
