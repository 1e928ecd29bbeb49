"""The small model that comes with the code: weights, configuration, model card, and the backbone's code.

Imports nothing of the project; worker.training holds the recipe that made the weights.
"""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
