"""What a plan must not do, and what its reader should know: refusals and warnings, each a sentence.

Every rule is SageMaker's (a request that AWS would refuse, or would carry out otherwise than it reads) or the house's
(what answers users has passed the gate, and its code can be found again).
"""

from __future__ import annotations

from collections.abc import Iterator

from captioner.deployparams import DeployParams
from captioner.ledger import CHALLENGER
from captioner.release.facts import CHANGING, Live, Wanted
from captioner.release.requests import LONGEST_UPDATE_S, Request, alarms, capacity, rollout_s
from captioner.release.steps import Action

PASSED = "passed"
GUARDED = ("canary", "linear", "all-at-once")


def refusals(wanted: Wanted, live: Live, updates: bool) -> tuple[str, ...]:
    """Why this plan is not carried out. `updates`: an endpoint that is in service gets other instances."""
    return (*_impossible(wanted, live, updates), *(said for said, strict in _house(wanted, live) if strict))


def warnings(wanted: Wanted, live: Live, updates: bool) -> tuple[str, ...]:
    """What does not stop the plan."""
    return (*_surprising(wanted, live, updates), *(said for said, strict in _house(wanted, live) if not strict))


def renamed(wanted: Wanted, live: Live) -> str:
    """How the variants' names change, in words; "" when they stay: guardrails need them to."""
    before = {(one.name, one.shadow) for one in live.variants}
    after = {(one.name, one.shadow) for one in wanted.variants}
    parts = [f"{name} {'(shadow) ' if shadow else ''}goes" for name, shadow in sorted(before - after)]
    parts += [f"{name} {'(shadow) ' if shadow else ''}comes" for name, shadow in sorted(after - before)]
    return ", ".join(parts)


def _impossible(wanted: Wanted, live: Live, updates: bool) -> Iterator[str]:
    params, production = wanted.params, [one for one in wanted.variants if not one.shadow]
    shadows = [one for one in wanted.variants if one.shadow]
    if updates and params.strategy in ("canary", "linear"):
        single = [one.name for one in wanted.variants if not params.serverless and capacity(params, one.name)[1] < 2]
        if single:
            share = "half" if params.strategy == "canary" else "a part"
            yield (
                f"strategy: {params.strategy} needs two instances of each variant, for at most {share} of them goes "
                f"first, and there is one of {' and one of '.join(single)}: "
                "set deploy.instances to 2, or strategy: all-at-once."
            )
        if rollout_s(params) > LONGEST_UPDATE_S:
            yield f"The waits add up to {rollout_s(params)} s; SageMaker ends an update after {LONGEST_UPDATE_S} s."
    inferentia = sorted({kind for kind in (capacity(params, one.name)[0] for one in production) if "ml.inf1." in kind})
    if updates and inferentia and (params.strategy in GUARDED or params.alarms):
        yield (
            f"SageMaker has no deployment guardrails on {' and '.join(inferentia)}, and moves all traffic at once: "
            "take other instances, or strategy: ab without deploy.alarms."
        )
    if updates and params.strategy in GUARDED and (names := renamed(wanted, live)):
        yield (
            f"strategy: {params.strategy} needs the same variants before and after, and {names}: "
            "deploy this one with strategy: ab."
        )
    firing = sorted(live.alarming & {str(one["AlarmName"]) for one in alarms(wanted)})
    if updates and firing and not renamed(wanted, live):
        yield (
            "An update that is guarded by an alarm which is in ALARM is rolled back at once, and there is "
            f"{firing[0]}: wait until it clears, or leave deploy.alarms out."
        )
    if not live.bucket and not live.place.local:
        yield f"There is no bucket {live.place.bucket}: create it, or set CAPTIONER_AWS_BUCKET."
    if shadows and len(production) > 1:
        yield "A shadow needs exactly one production variant: shadow first, then the A/B test, never both."
    if shadows and wanted.experiment:
        yield (
            "An experiment is running on this endpoint, and a shadow answers nobody: end the experiment first, "
            "or keep strategy: ab."
        )
    if params.serverless:
        yield from _serverless(wanted, live, updates)


def _serverless(wanted: Wanted, live: Live, updates: bool) -> Iterator[str]:
    params = wanted.params
    if len(wanted.variants) > 1:
        yield (
            "A serverless endpoint has one variant, and there is a challenger: drop its alias, or leave "
            "deploy.serverless out for as long as two are compared."
        )
    named = {"deploy.capture": params.capture, "deploy.vpc": params.vpc}
    if unfit := [name for name, value in named.items() if value]:
        yield f"A serverless endpoint has no {' and '.join(unfit)}: leave it out, or deploy.serverless."
    if params.strategy in ("canary", "linear"):
        yield f"A serverless endpoint has no instances to be moved by strategy: {params.strategy}; use all-at-once."
    if updates and any(one.instances is not None for one in live.variants):
        yield (
            "SageMaker does not turn an endpoint with instances into a serverless one: `captioner deploy down` first."
        )


def _house(wanted: Wanted, live: Live) -> Iterator[tuple[str, bool]]:
    """Sentences, and whether each is a refusal here."""
    if wanted.restores:
        return  # an emergency asks for no tidy working folder: that says nothing of what served before
    real = not live.place.local
    for one in wanted.variants:
        if one.name == CHALLENGER and one.gate != PASSED:
            if one.gate:
                why = one.gate.removeprefix("failed: ").rstrip(".")
                yield f"Version {one.version}, the challenger, did not pass the gate: {why}.", True
            else:
                yield f"Version {one.version}, the challenger, was never judged by the gate.", real
    if wanted.dirty:
        yield (
            "The git tree has changes outside dvc.lock and params.yaml: what is deployed has no commit to be traced to"
            + ("; commit them." if real else "; on AWS this is refused."),
            real,
        )
    elif not wanted.sha:
        yield "This folder is no git checkout: what is deployed cannot be traced to a commit.", False


def _surprising(wanted: Wanted, live: Live, updates: bool) -> Iterator[str]:
    params = wanted.params
    if live.status in CHANGING:
        yield f"The endpoint is {live.status}: apply waits for that, and looks anew at what is to be done."
    if wanted.ramped:
        yield (
            f"The weights are those of the last ramp, not deploy.challenger_share ({params.challenger_share:g}); "
            "`captioner deploy ramp` moves them."
        )
    if updates and params.alarms and params.strategy in ("ab", "shadow") and (names := renamed(wanted, live)):
        yield f"No alarm guards this update, for its variants change ({names}): SageMaker wants the same names."
    if updates and params.strategy in GUARDED and not params.alarms:
        yield f"strategy: {params.strategy} without deploy.alarms: nothing but a person ends it early."
    if params.strategy == "shadow" and not any(one.shadow for one in wanted.variants):
        yield "strategy: shadow, but there is no challenger: the champion is deployed alone."
    if params.kms_key and live.place.local:
        yield "The local S3 has no keys: archives are stored there without deploy.kms_key."
    if params.ttl_hours and live.place.local:
        yield "The time to live is a tag: the local stack is ended by `captioner down` only."


def guardrails(params: DeployParams, action: Action, guarded: Request | None) -> tuple[str, ...]:
    """Which guardrails really apply to this change, whatever the params ask for."""
    if action == "nothing":
        return ("none needed: no traffic moves",)
    if action in ("create", "replace"):
        return (f"none: {'a new' if action == 'create' else 'a broken'} endpoint has no old variants to go back to",)
    if action == "weigh":
        return ("none by SageMaker: weights move at once; `captioner deploy ramp` watches each step",)
    found = ["the old instances answer until every new one is healthy"]
    if guarded is None:
        return (*found, "all traffic moves at once; no alarm, no bake")
    if params.strategy == "canary":
        found.append(
            f"canary: {params.canary.size_percent} % of the instances for {params.canary.wait_s} s, then the rest"
        )
    elif params.strategy == "linear":
        found.append(f"linear: {params.linear.step_percent} % of the instances every {params.linear.wait_s} s")
    else:
        found.append("all traffic moves at once")
    found.append(f"the old instances stay for {params.bake_s} s after that")
    count = len(guarded.get("AutoRollbackConfiguration", {}).get("Alarms", ()))
    found.append(f"{count} alarms roll it back" if count else "no alarm: nothing rolls it back")
    return tuple(found)
