"""Valkey's password as a line of its configuration, because every process of a machine can read a command line."""


def format_password(password: str) -> str:
    """Return the line for a password of any characters."""
    escaped = "".join(rf"\x{byte:02x}" for byte in password.encode())
    return f'requirepass "{escaped}"\n'
