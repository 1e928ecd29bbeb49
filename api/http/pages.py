"""Requests that a web page makes in a browser: which pages may call a gateway that requires no token.

Such a gateway serves each client that reaches it, and a browser reaches it for every page that it shows.  CORS alone
keeps a page from reading responses, not from sending requests: a form is submitted without a preflight.  So requests
of foreign pages are refused before anything else is done.
"""

from flask import Request

from api.http.cors import Policy
from shared.errors import ForeignOrigin
from shared.web_pages import is_from_foreign_page

_MESSAGE = (
    "Web pages of other origins may not call this service, because it requires no token. "
    "The operator allows a page by MASKMILL_CORS_ORIGINS, or requires a token by MASKMILL_TOKENS."
)


def check_page(request: Request, policy: Policy) -> None:
    """Check that a request does not come from a foreign page; clients that are no browsers send none of the headers.

    Raises:
        ForeignOrigin: it comes from one; a top-level navigation, such as a link to a result, is allowed.
    """
    if is_from_foreign_page(request.method, request.headers, request.host, lambda origin: policy(origin) is not None):
        raise ForeignOrigin(_MESSAGE)
