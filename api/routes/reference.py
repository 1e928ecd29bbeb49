"""The reference of the API as a page, made of the OpenAPI document.  It needs no token, and runs no script."""

from functools import cached_property

from flask import Response

from api.http.openapi_document import Document
from api.routes.ui import build_page
from api.ui.reference import Reference, read_reference


class ReferencePage:
    """The page of one OpenAPI document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def show(self) -> Response:
        """Show the OpenAPI document as a page."""
        return build_page("api.html", reference=self._reference)

    @cached_property
    def _reference(self) -> Reference:
        # Not before it is asked for: an app is built in each process, and most never show it.
        return read_reference(self._document)
