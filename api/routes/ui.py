"""The web pages: `/` for photos and `/ui/ops` for operators, and the files that a browser loads for them.

They hold no data, so they need no token: their scripts call the API with the one that the user enters.
"""

import base64
import hashlib
import json
from typing import Any

from flask import Blueprint, Response, current_app, render_template, request, url_for

from api.http.files import GZIP_SUFFIX
from api.routes.context import get_gateway
from api.ui.assets import Asset, read_assets
from shared import __version__
from shared.errors import UnknownRoute, WrongMethod

bp = Blueprint("ui", __name__, template_folder="../ui/templates")

# Bare names in `import` statements, and the files that they mean.
_IMPORTS = {
    "preact": "vendor/preact/preact.mjs",
    "preact/hooks": "vendor/preact/hooks.mjs",
    "htm": "vendor/htm/htm.mjs",
    "htm/preact": "vendor/htm/preact.mjs",
}
_SHARED_FOLDERS = ("vendor/preact", "vendor/htm", "modules")
# {import_map}: the digest of the one inline script, which is data: browsers take a map of imports from nowhere else.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' '{import_map}'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PERMISSIONS_POLICY = (
    "camera=(self), clipboard-read=(self), clipboard-write=(self), geolocation=(), microphone=(), payment=(), usb=()"
)
_YEAR_SECONDS = 365 * 24 * 60 * 60


@bp.get("/")
def show_page() -> Response:
    """Show the page for photos to a browser; to other clients this address takes POST alone, as it did before it.

    Raises:
        WrongMethod: HTML is not what the client accepts first.
    """
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        raise WrongMethod(
            "This address does not take this method, but images by POST; a browser gets a page here.",
            methods=("POST", "OPTIONS"),
        )
    return build_page("page.html", (*_SHARED_FOLDERS, "modules/app", "modules/viewer"))


@bp.get("/ui/ops")
def show_operations() -> Response:
    """Show the page for operators."""
    return build_page("ops.html", (*_SHARED_FOLDERS, "modules/ops"))


@bp.get("/ui/static/<version>/<path:name>")
def show_asset(version: str, name: str) -> Response:
    """Serve a file of the pages.

    Raises:
        UnknownRoute: there is none of this name.
    """
    assets = read_assets()
    asset = assets.files.get(name)
    if asset is None:
        raise UnknownRoute("There is nothing at this address.")
    response = _build_asset(asset)
    # Another version is asked for while gateways are replaced: their pages load the files of either.
    is_current = version == assets.version
    response.headers["Cache-Control"] = f"public, max-age={_YEAR_SECONDS}, immutable" if is_current else "no-cache"
    return response


def build_page(template: str, folders: tuple[str, ...] = (), **values: Any) -> Response:
    """Return a page in the common layout, with the policy of all pages.

    Args:
        folders: of the modules that it runs.
        values: for its template.
    """
    assets = read_assets()
    # JSON in a script: `<` could end it, and a prefix of a proxy is text of others.
    import_map = json.dumps({"imports": {name: _address(file) for name, file in _IMPORTS.items()}}).replace(
        "<", "\\u003c"
    )
    page = render_template(
        template,
        address=_address,
        import_map=import_map,
        modules=[_address(name) for name in assets.list_modules(*folders)],
        base=request.script_root,
        max_upload_bytes=current_app.config["MAX_CONTENT_LENGTH"],
        requires_token=get_gateway().authenticator.requires_token,
        version=__version__,
        **values,
    )
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers.update(
        {
            "Content-Security-Policy": _CONTENT_SECURITY_POLICY.format(import_map=_hash_source(import_map)),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": _PERMISSIONS_POLICY,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
    )
    response.vary.add("Accept")
    return _restrict(response)


def _build_asset(asset: Asset) -> Response:
    is_compressed = asset.compressed is not None and request.accept_encodings["gzip"] > 0
    response = Response(asset.compressed if is_compressed else asset.content, content_type=asset.media_type)
    if is_compressed:
        response.content_encoding = "gzip"
    if asset.compressed is not None:
        response.vary.add("Accept-Encoding")
    # A strong ETag names bytes, and the compressed ones are others.
    response.set_etag(asset.digest + (GZIP_SUFFIX if is_compressed else ""))
    return _restrict(response).make_conditional(request)  # type: ignore[return-value]


def _restrict(response: Response) -> Response:
    """Keep other pages from loading it, where a browser does not say which page asks."""
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _address(name: str) -> str:
    return url_for("ui.show_asset", version=read_assets().version, name=name)


def _hash_source(script: str) -> str:
    """Return an inline script as a source of a policy (Content Security Policy Level 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
