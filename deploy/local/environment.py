"""The environments of the service's processes, and the settings that the launcher reads in its own."""

import re
from collections.abc import Mapping
from pathlib import Path

from shared.settings import SECRETS_DIR

# By its name, a variable with a credential: of this service, of Amazon, of Hugging Face, or of something else.
_CREDENTIAL = re.compile(r"TOKENS?(_|$)|SECRET|PASSW|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)
_CREDENTIALS_OF_MODULES = {"api.wsgi": ("MASKMILL_TOKENS",), "worker.main": ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}


def select_variables(environ: Mapping[str, str], module: str) -> dict[str, str]:
    """Return the environment for one module of the service: without credentials that it does not use."""
    # The variable for settings in files names a folder; each process reads only its own settings there.
    allowed = (SECRETS_DIR, *_CREDENTIALS_OF_MODULES.get(module, ()))
    return {name: value for name, value in environ.items() if not _CREDENTIAL.search(name) or name.startswith(allowed)}


def find_setting(environ: Mapping[str, str], name: str) -> str:
    """Return a setting as a process with this environment reads it: a variable, or a file in the folder of secrets.

    It is empty if there is neither, or if the file cannot be read, which the process reports itself.
    """
    folder = environ.get(SECRETS_DIR)
    if environ.get(name) or not folder:
        return environ.get(name, "")
    try:
        found = [file for file in Path(folder).iterdir() if file.name.lower() == name.lower()]
        return found[0].read_text().strip() if found else ""
    except (OSError, UnicodeDecodeError):
        return ""
