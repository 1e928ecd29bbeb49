"""The API's documentation as a page: the OpenAPI document, drawn by RapiDoc.  Nothing is loaded from elsewhere."""

from functools import cache
from importlib import resources

from flask import Blueprint, Response, render_template_string, url_for

bp = Blueprint("docs", __name__, url_prefix="/docs")

# RapiDoc sets styles from its script; it runs no other script and talks to this service alone.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Maskmill API</title>
    <script type="module" src="{{ script }}"></script>
  </head>
  <body>
    <rapi-doc spec-url="{{ document }}" render-style="read" load-fonts="false" show-header="false"
      allow-server-selection="false" schema-description-expanded="true" persist-auth="false" theme="light">
      <noscript>This page needs JavaScript. The document itself is at {{ document }}.</noscript>
    </rapi-doc>
  </body>
</html>
"""


@bp.get("/api")
def show_page() -> Response:
    """Show the OpenAPI document as a page."""
    page = render_template_string(_PAGE, script=url_for("docs.show_script"), document=url_for("openapi"))
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response


@bp.get("/rapidoc.js")
def show_script() -> Response:
    """Serve RapiDoc from its package."""
    response = Response(_read_script(), content_type="text/javascript; charset=utf-8")
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


@cache
def _read_script() -> bytes:
    package = resources.files("flask_openapi3_rapidoc")
    return (package / "templates" / "rapidoc" / "js" / "rapidoc-min.js").read_bytes()
