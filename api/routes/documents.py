"""The documents as pages, in the layout of the others.  They need no token, and run no script."""

from itertools import islice

from flask import Blueprint, Response

from api.routes.ui import build_page
from api.ui.documents import SECTIONS, read_documents
from shared.errors import UnknownRoute

bp = Blueprint("documents", __name__, url_prefix="/docs")


@bp.get("")
def list_documents() -> Response:
    """Show which documents there are."""
    return build_page("documents.html", sections=SECTIONS, documents=read_documents())


@bp.get("/<path:name>")
def show_document(name: str) -> Response:
    """Show a document.

    Raises:
        UnknownRoute: there is none of this name.
    """
    documents = read_documents()
    if name not in documents:
        raise UnknownRoute("There is no document at this address; /docs lists them.")
    following = list(documents).index(name) + 1
    return build_page(
        "document.html",
        document=documents[name],
        following=next(islice(documents.values(), following, None), None),
        sections=SECTIONS,
        documents=documents,
    )
