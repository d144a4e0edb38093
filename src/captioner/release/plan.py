"""The plan: the steps between what is live and what is wanted, in SageMaker's order; what apply shows and executes.

Create what is new, change the endpoint, wait, ask every variant who it is, and only then delete what nothing refers to.
A plan is computed from facts alone, so one that was cut off at any step is computed anew and is what is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from captioner.release import names, requests
from captioner.release.cost import Cost, cost
from captioner.release.facts import BROKEN, Live, LiveVariant, Place, Wanted, WantedVariant
from captioner.release.rules import guardrails, refusals, renamed, warnings
from captioner.release.steps import Action, Step, arrived, delete_endpoint, still, weigh


@dataclass(frozen=True)
class Side:
    """A variant on one side of a change."""

    version: str
    digest: str
    weight: float
    instances: int
    instance_type: str
    shadow: bool


@dataclass(frozen=True)
class Change:
    """What becomes of one variant; `before` or `after` is None when there is none."""

    variant: str
    before: Side | None
    after: Side | None


@dataclass(frozen=True)
class Plan:
    """Everything that apply would do, and what there is to know before it does."""

    endpoint: str
    place: Place
    action: Action
    changes: tuple[Change, ...]
    steps: tuple[Step, ...]
    guardrails: tuple[str, ...]
    cost: Cost
    expires: str | None
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]
    config: str  # that is live afterwards
    wait_s: int


def plan(wanted: Wanted, live: Live) -> Plan:
    """What is to be done so that `live` becomes `wanted`."""
    models = {one.name: requests.model(wanted, one, live.place) for one in wanted.variants}
    config = requests.config(wanted, models, live.place)
    alarms = requests.alarms(wanted)
    action = _action(wanted, live, config)
    updates = action == "update"
    guarded = requests.routing(wanted.params, [one["AlarmName"] for one in alarms]) if updates else None
    if renamed(wanted, live):
        guarded = None
    after = str(live.config) if action in ("weigh", "nothing") else config["EndpointConfigName"]
    steps = _steps(wanted, live, action, models, config, alarms, guarded, after)
    return Plan(
        endpoint=wanted.endpoint,
        place=live.place,
        action=action,
        changes=tuple(_changes(wanted, live)),
        steps=steps,
        guardrails=guardrails(wanted.params, action, guarded),
        cost=cost(wanted.params, [one.name for one in wanted.variants]),
        expires=_expires(wanted, live),
        warnings=warnings(wanted, live, updates),
        refusals=refusals(wanted, live, updates),
        config=after,
        wait_s=wanted.params.max_wait_s + (requests.rollout_s(wanted.params) if guarded else 0),
    )


def same(one: float, other: float) -> bool:
    """Equal as far as AWS can tell, which keeps weights in single precision."""
    return abs(one - other) < 1e-6


def _action(wanted: Wanted, live: Live, config: requests.Request) -> Action:
    if live.status is None:
        return "create"
    if live.status in BROKEN:
        return "replace"
    if requests.content(live.settings) != requests.content(config):
        return "update"
    now = {one.name: one for one in live.production}
    for one in (one for one in wanted.variants if not one.shadow):
        if not same(now[one.name].weight, one.weight) or _count(wanted, one) != now[one.name].instances:
            return "weigh"
    return "nothing"


def _count(wanted: Wanted, variant: WantedVariant) -> int | None:
    return None if wanted.params.serverless else requests.capacity(wanted.params, variant.name)[1]


def _steps(
    wanted: Wanted,
    live: Live,
    action: Action,
    models: Mapping[str, requests.Request],
    config: requests.Request,
    alarms: tuple[requests.Request, ...],
    guarded: requests.Request | None,
    after: str,
) -> tuple[Step, ...]:
    steps = []
    if action in ("create", "replace", "update"):
        steps += [*_parts(wanted, live, models), *_alarms(live, alarms), *_config(live, config)]
    else:
        steps += _alarms(live, alarms)
    steps += _change(wanted, live, action, config, guarded)
    marked = live.tags.get(names.VERIFIED) == after and action not in ("create", "replace", "update")
    if not marked:
        steps += _verify(wanted)
    steps += _tags(wanted, live, action, after)
    leftovers = list(_leftovers(wanted, live, {str(one["ModelName"]) for one in models.values()}, alarms, after))
    if leftovers:
        steps += [still(wanted.endpoint, after), *leftovers]
    return tuple(steps)


def _parts(wanted: Wanted, live: Live, models: Mapping[str, requests.Request]) -> Iterator[Step]:
    """Smoke-test, upload and create each model that is not there; two variants may share one."""
    new = {
        models[one.name]["ModelName"]: one
        for one in wanted.variants
        if models[one.name]["ModelName"] not in live.models
    }
    artifacts = {one.digest: one for one in new.values()}
    for one in artifacts.values():
        yield Step("here", "SmokeTest", f"version {one.version} ({one.digest[:12]}) by itself", digest=one.digest)
    uploads = [one for one in artifacts.values() if one.digest not in live.archives]
    if uploads and not live.bucket and live.place.local:
        yield Step("s3", "CreateBucket", live.place.bucket, {"Bucket": live.place.bucket})
    for one in uploads:
        request = {"Bucket": live.place.bucket, "Key": names.archive_key(one.digest)}
        if wanted.params.kms_key and not live.place.local:
            request |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": wanted.params.kms_key}
        yield Step("s3", "PutObject", request["Key"], request, one.digest)
    for name, one in new.items():
        yield Step("sagemaker", "CreateModel", f"{name} (version {one.version})", models[one.name])


def _alarms(live: Live, alarms: tuple[requests.Request, ...]) -> list[Step]:
    missing = [one for one in alarms if one["AlarmName"] not in live.alarms]
    return [Step("cloudwatch", "PutMetricAlarm", one["AlarmName"], one) for one in missing]


def _config(live: Live, config: requests.Request) -> list[Step]:
    name = str(config["EndpointConfigName"])
    made = [] if name in live.configs else [Step("sagemaker", "CreateEndpointConfig", name, config)]
    # Reads lag behind writes: an endpoint must not be pointed at a config that is not to be seen yet.
    return [*made, Step("sagemaker", "DescribeEndpointConfig", name, {"EndpointConfigName": name})]


def _change(
    wanted: Wanted, live: Live, action: Action, config: requests.Request, guarded: requests.Request | None
) -> list[Step]:
    name, chosen = wanted.endpoint, str(config["EndpointConfigName"])
    if action == "nothing":
        return []
    production = [one for one in wanted.variants if not one.shadow]
    weights = {one.name: one.weight for one in production}
    if action == "weigh":
        now = {one.name: one.instances for one in live.production}
        counts = {one.name: _count(wanted, one) for one in production if _count(wanted, one) != now[one.name]}
        return [weigh(name, weights, counts), arrived(name, str(live.config), weights)]
    request: requests.Request = {"EndpointName": name, "EndpointConfigName": chosen}
    if action == "update":
        extra = {"DeploymentConfig": guarded} if guarded else {}
        changed = Step("sagemaker", "UpdateEndpoint", f"{name} to {chosen}", {**request, **extra})
        return [changed, arrived(name, chosen, weights)]
    gone = delete_endpoint(name) if action == "replace" else []
    tags = requests.as_tags({**_wanted_tags(wanted), names.OWNER: name})
    made = Step("sagemaker", "CreateEndpoint", f"{name} on {chosen}", {**request, "Tags": tags})
    return [*gone, made, arrived(name, chosen, weights)]


def _verify(wanted: Wanted) -> Iterator[Step]:
    """A shadow cannot be asked: TargetVariant knows production variants only."""
    for one in (one for one in wanted.variants if not one.shadow):
        request = {"EndpointName": wanted.endpoint, "TargetVariant": one.name}
        yield Step(
            "sagemaker-runtime", "InvokeEndpoint", f"{one.name} answers as version {one.version}", request, one.digest
        )


def _wanted_tags(wanted: Wanted) -> dict[str, str]:
    found = dict(wanted.params.tags)
    if wanted.params.ttl_hours and wanted.expires:
        found |= {names.TTL: str(wanted.params.ttl_hours), names.EXPIRES: wanted.expires}
    return found


def _tags(wanted: Wanted, live: Live, action: Action, after: str) -> list[Step]:
    """The tags that are not there yet. An endpoint's time to live runs from when it was first asked for."""
    created = action in ("create", "replace")
    there = dict(_wanted_tags(wanted)) if created else dict(live.tags)
    new = _wanted_tags(wanted) | {names.OWNER: wanted.endpoint, names.VERIFIED: after}
    if there.get(names.TTL) == new.get(names.TTL):
        new.pop(names.EXPIRES, None)
    missing = {key: value for key, value in new.items() if there.get(key) != value}
    if created:
        missing.pop(names.OWNER, None)
    steps = []
    if missing:
        request = {"EndpointName": wanted.endpoint, "Tags": requests.as_tags(missing)}
        steps.append(Step("sagemaker", "AddTags", ", ".join(sorted(missing)), request))
    if not wanted.params.ttl_hours and (old := [key for key in (names.EXPIRES, names.TTL) if key in there]):
        request = {"EndpointName": wanted.endpoint, "TagKeys": old}
        steps.append(Step("sagemaker", "DeleteTags", ", ".join(old), request))
    return steps


def _leftovers(
    wanted: Wanted, live: Live, models: set[str], alarms: tuple[requests.Request, ...], after: str
) -> Iterator[Step]:
    used = models | {one.model for one in live.variants if after == live.config}
    for name in sorted(live.configs - {after}):
        yield Step("sagemaker", "DeleteEndpointConfig", name, {"EndpointConfigName": name})
    for name in sorted(live.models - used):
        yield Step("sagemaker", "DeleteModel", name, {"ModelName": name})
    if old := sorted(live.alarms - {str(one["AlarmName"]) for one in alarms}):
        yield Step("cloudwatch", "DeleteAlarms", ", ".join(old), {"AlarmNames": old})


def _expires(wanted: Wanted, live: Live) -> str | None:
    if not wanted.params.ttl_hours:
        return None
    kept = live.tags.get(names.TTL) == str(wanted.params.ttl_hours) and live.status not in (None, *BROKEN)
    return live.tags.get(names.EXPIRES) if kept else wanted.expires


def _changes(wanted: Wanted, live: Live) -> Iterator[Change]:
    before = {one.name: _was(one) for one in live.variants}
    after = {one.name: _will_be(wanted, one) for one in wanted.variants}
    for name in [*after, *(name for name in before if name not in after)]:
        yield Change(name, before.get(name), after.get(name))


def _was(one: LiveVariant) -> Side:
    return Side(one.version, one.digest, one.weight, one.instances or 0, one.instance_type, one.shadow)


def _will_be(wanted: Wanted, one: WantedVariant) -> Side:
    kind, count = requests.capacity(wanted.params, one.name)
    instances = 0 if wanted.params.serverless else count
    return Side(one.version, one.digest, one.weight, instances, kind, one.shadow)
