"""The path of a request, before it is routed."""

from collections.abc import Callable, Iterable
from typing import Any

from api.server.options import WsgiApp
from api.server.paths import merge_slashes


def serve_merged_paths(app: WsgiApp) -> WsgiApp:
    """Return an app that serves a path with `//` as that with `/`.

    Such paths come from a base URL that ends in a slash.  Werkzeug's own option answers with a redirect, after which
    some clients do not repeat the POST; and `//name/` in a Location is another host.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any], /) -> Iterable[bytes]:
        environ["PATH_INFO"] = merge_slashes(environ.get("PATH_INFO", ""))
        return app(environ, start_response)

    return serve
