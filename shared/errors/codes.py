"""From the code of an error to its class."""

from shared.errors import client, faults, root, unavailable
from shared.errors.root import MaskmillError


def build_error(code: str, message: str) -> MaskmillError:
    """Return the error that another process recorded by its code.

    An unknown code, such as one of a newer version, gives the root of the tree.
    """
    return _BY_CODE.get(code, MaskmillError)(message)


_BY_CODE = {
    kind.code: kind
    for module in (root, client, unavailable, faults)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, MaskmillError) and "code" in vars(kind)
}
