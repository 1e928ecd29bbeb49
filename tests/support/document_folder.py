"""The folder in which the commands of documents are run, and the file of settings that they read."""

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.sample_job import SAMPLE_IMAGE
from tests.support.code_blocks import CodeBlock, read_blocks
from tests.support.tables import ROOT

_LINKED = ("api", "deploy", "shared", "worker")


def make_document_folder(folder: Path) -> Path:
    """Fill a folder with that of the repository, as far as the documents use it, and a photo."""
    for name in _LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(SAMPLE_IMAGE, folder / "photo.jpg")
    return folder


def find_block(document: str, word: str) -> CodeBlock:
    """Return the one block of a document in which a word stands."""
    (found,) = (block for block in read_blocks(document) if word in block.text)
    return found


def write_settings(block: CodeBlock, folder: Path, values: Mapping[str, str]) -> None:
    """Write the file of settings that a block writes, with the same names and these values."""
    names = re.findall(r"^(MASKMILL_\w+)=", block.text, re.MULTILINE)
    file = re.findall(r"^cat > (\S+)", block.text, re.MULTILINE)[0]
    (folder / file).write_text("".join(f"{name}={values[name]}\n" for name in names))
