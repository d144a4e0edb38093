"""``/openapi.json`` and ``/docs``: the document and a page that shows it, from a package, so without a CDN.

Addresses are relative: behind API Gateway everything lies below the stage's name. The page of that package reads
OpenAPI 3.0, so that is what is said here, though FastAPI speaks 3.1.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

NULL = {"type": "null"}
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


class _Page(StaticFiles):
    """The files that the page needs, and no others: the package holds source maps of 20 MB."""

    def lookup_path(self, path: str):  # type: ignore[no-untyped-def]
        return super().lookup_path(path if path in FILES else "nothing")


def as_3_0(node: Any) -> Any:
    """The same in OpenAPI 3.0, which has no type "null" and calls what may be null `nullable`."""
    if isinstance(node, list):
        return [as_3_0(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: as_3_0(one) for name, one in node.items()}
    choices = found.get("anyOf")
    if isinstance(choices, list) and NULL in choices:
        others = [one for one in choices if one != NULL]
        del found["anyOf"]
        # Beside a $ref nothing else counts in 3.0, so it stands in a list of one.
        found |= others[0] if len(others) == 1 and "$ref" not in others[0] else {"allOf": others}
        found["nullable"] = True
    return found


def add(app: FastAPI) -> None:
    """Add both."""
    from swagger_ui_bundle import swagger_ui_path

    app.openapi_version = "3.0.3"

    @cache
    def written() -> Any:
        return as_3_0(app.openapi())

    async def document() -> JSONResponse:
        return JSONResponse(written())

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
