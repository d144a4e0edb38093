"""``captioner status``: what is up, what the registry calls champion and challenger, and what the endpoint serves."""

from __future__ import annotations

from typing import Any

from captioner import stack
from captioner.bootstrap import App, open_app
from captioner.errors import CaptionerError


def overview() -> dict[str, Any]:
    """The object of DESIGN's contract. A part that does not answer is None; asking never starts anything."""
    app = open_app()
    services = stack.status(app.settings, app.paths)
    return {
        "services": {n: {"url": s.get("url"), "healthy": bool(s.get("healthy"))} for n, s in services.items()},
        "endpoint": _endpoint(app, services),
        "champion": _model(app, "champion"),
        "challenger": _model(app, "challenger"),
    }


def _endpoint(app: App, services: dict[str, Any]) -> dict[str, Any] | None:
    if app.settings.aws == "local" and not services.get("aws", {}).get("healthy"):
        return None
    try:
        state = app.endpoint().state(app.name)
    except CaptionerError:
        return None
    if state is None:
        return None
    variants = {
        v.name: {"weight": v.weight, "model_version": v.model_version, "digest": v.digest} for v in state.variants
    }
    return {"name": state.name, "status": state.status, "variants": variants}


def _model(app: App, alias: str) -> dict[str, Any] | None:
    if app.settings.mlflow_uri is None and not app.paths.mlflow.exists():
        return None
    try:
        model = app.registry().by_alias(app.name, alias)
    except CaptionerError:
        return None
    return None if model is None else {"name": model.name, "version": model.version, "digest": model.digest}


def render(found: dict[str, Any]) -> str:
    """The overview for people."""
    lines = ["services"]
    for name, service in found["services"].items():
        lines.append(f"  {name:<12} {'up  ' if service['healthy'] else 'down'}  {service['url'] or ''}".rstrip())
    endpoint = found["endpoint"]
    if endpoint is None:
        lines.append("endpoint      none (run the pipeline: captioner run)")
    else:
        lines.append(f"endpoint      {endpoint['name']}: {endpoint['status']}")
        for name, variant in endpoint["variants"].items():
            model = f"version {variant['model_version']}, {variant['digest'][:12]}"
            lines.append(f"  {name:<12} weight {variant['weight']:g}, {model}")
    for alias in ("champion", "challenger"):
        model = found[alias]
        lines.append(f"{alias:<13} {model['name'] + ' version ' + model['version'] if model else 'none'}")
    return "\n".join(lines)
