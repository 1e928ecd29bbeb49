"""Make a token and its line for the tokens file:  python -m api.tokens NAME [--scopes read] [--expires 2027-01-31]

The token is shown once and stored nowhere; the file holds only its digest.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence

from api.http.tokens import Token, compute_digest, format_line, parse_scopes, parse_time

RANDOM_BYTES = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a token and its line."""
    parser = argparse.ArgumentParser(prog="python -m api.tokens", description="Make a token for the tokens file.")
    parser.add_argument("name", help="of the tenant; a tenant may have several tokens")
    parser.add_argument("--scopes", default="read,submit", help="read, submit, admin, by commas (read,submit)")
    parser.add_argument("--expires", help="such as 2027-01-31 or 2027-01-31T12:00:00Z (never)")
    chosen = parser.parse_args(arguments)
    token = secrets.token_urlsafe(RANDOM_BYTES)
    try:
        expires_at = parse_time(chosen.expires) if chosen.expires else None
        line = format_line(Token(chosen.name, compute_digest(token), parse_scopes(chosen.scopes), expires_at))
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"Token for the client, shown only now:  {token}\nLine for MASKMILL_TOKENS_FILE:\n{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
