"""``/openapi.json`` and ``/docs``: the document and a page that shows it, from a package, so without a CDN.

Addresses are relative: behind API Gateway everything lies below the stage's name.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


class _Page(StaticFiles):
    """The files that the page needs, and no others: the package holds source maps of 20 MB."""

    def lookup_path(self, path: str):  # type: ignore[no-untyped-def]
        return super().lookup_path(path if path in FILES else "nothing")


def add(app: FastAPI) -> None:
    """Add both."""
    from swagger_ui_bundle import swagger_ui_path

    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    async def page() -> HTMLResponse:
        script, style, icon = (f"docs/{name}" for name in FILES)
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="captioner",
            swagger_js_url=script,
            swagger_css_url=style,
            swagger_favicon_url=icon,
        )

    app.add_api_route("/openapi.json", document, include_in_schema=False)
    app.add_api_route("/docs", page, include_in_schema=False)
    app.mount("/docs", _Page(directory=swagger_ui_path))
