"""The command line of a process, which is configured by its environment: a help, and no argument by mistake."""

import argparse
from collections.abc import Mapping

_SETTINGS = "Its settings are the variables MASKMILL_... and are listed in deploy/docs/reference/settings.md."


def check_arguments(module: str, purpose: str, flags: Mapping[str, str] | None = None) -> None:
    """Check the arguments of this process: print the help for --help, and end with exit code 2 for an unknown one.

    Args:
        module: as in `python -m {module}`.
        flags: those that it takes, with what each does.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=purpose, epilog=_SETTINGS, allow_abbrev=False
    )
    for flag, meaning in (flags or {}).items():
        parser.add_argument(flag, action="store_true", help=meaning)
    parser.parse_args()
