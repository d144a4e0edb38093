"""A plan as text: what changes, what it costs, what guards it, each API call in its order."""

from __future__ import annotations

from collections.abc import Iterator

from captioner.release.plan import Change, Plan, Side

_HEADS = {
    "create": "is created",
    "replace": "is broken: deleted and created anew",
    "update": "gets other instances",
    "weigh": "keeps its instances; weights or their number change",
    "nothing": "is what it should be",
}


def render(plan: Plan) -> str:
    """For a terminal."""
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"{plan.endpoint} on {plan.place.called} {_HEADS[plan.action]}."
    yield ""
    for change in plan.changes:
        yield from _change(change)
    yield ""
    hourly = "not known" if plan.cost.hourly is None else f"${plan.cost.hourly:.3f} an hour on AWS"
    yield f"  cost        {hourly}: {plan.cost.said}"
    if plan.cost.source:
        yield f"  prices      {plan.cost.source}"
    yield f"  expires     {plan.expires or 'never'}{' (a tag: nothing deletes it by itself)' if plan.expires else ''}"
    for number, guardrail in enumerate(plan.guardrails):
        yield f"  {'' if number else 'guardrails':<11} {guardrail}"
    yield ""
    if not plan.steps:
        yield "No call is needed."
    for number, step in enumerate(plan.steps, start=1):
        yield f"  {number:>3}. {step.service:<18} {step.operation:<35} {step.subject}"
    for warning in plan.warnings:
        yield f"  warning: {warning}"
    for refusal in plan.refusals:
        yield f"  refused: {refusal}"


def _change(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if before is None and after is not None:
        yield f"  + {change.variant:<11} {_side(after)}"
    elif after is None and before is not None:
        yield f"  - {change.variant:<11} {_side(before)}"
    elif before == after and after is not None:
        yield f"    {change.variant:<11} {_side(after)}"
    elif before is not None and after is not None:
        yield f"  ~ {change.variant:<11} {_side(after)}"
        for name, was, now in _fields(before, after):
            yield f"      {name:<9} {was} → {now}"


def _side(one: Side) -> str:
    size = f"{one.instances} x {one.instance_type}" if one.instances else one.instance_type
    role = f"shadow of {one.weight:.0%}" if one.shadow else f"weight {one.weight:g}"
    return f"version {one.version} ({one.digest[:12]}), {role}, {size}"


def _fields(before: Side, after: Side) -> Iterator[tuple[str, object, object]]:
    for name in ("version", "digest", "weight", "instances", "instance_type", "shadow"):
        was, now = getattr(before, name), getattr(after, name)
        if was != now:
            cut = 12 if name == "digest" else None
            yield name.replace("instance_", ""), was if cut is None else was[:cut], now if cut is None else now[:cut]
