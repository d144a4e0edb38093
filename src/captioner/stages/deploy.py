"""deploy: brings the endpoint in line with the registry's aliases. Not a DVC stage: it changes the outside world.

Whoever is champion and challenger in the registry answers under these names; models are swapped beneath them. Setting
an alias in the registry's own UI and reconciling is a way to promote. What is to be done is computed by ``release``;
here the wish is read, the artifacts are fetched, and the plan is carried out. Knows nothing of AWS: the endpoint is a
port.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from captioner.errors import BadData, BadInput, CaptionerError, GateFailed
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.lineage import git_state
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Documents, Endpoint, ModelVersion, Registry, Variant
from captioner.records import write_json
from captioner.release.facts import Live, Wanted, WantedVariant
from captioner.release.names import experiment_key
from captioner.release.plan import Plan, same
from captioner.release.plan import plan as planned
from captioner.stages import compare
from captioner.workspace import one_at_a_time

GATE = "captioner.gate"  # the tag in which register keeps what the gate said
MAY_DIFFER = (":(exclude,top)params.yaml",)


@dataclass(frozen=True)
class DeployReport:
    """What the endpoint is now. `changed` is False when its variants were that already; `steps` were done all the same:
    alarms, tags, a check that an interrupted run had left out."""

    endpoint: str
    status: str
    config: str | None
    changed: bool
    variants: tuple[Variant, ...]
    warnings: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()

    def render(self) -> str:
        """For a terminal."""
        said = "already as the registry wants it, nothing changed"
        if self.changed:
            said = "brought in line with the registry"
        elif self.steps:
            said = f"its variants are as the registry wants them; done beside them: {', '.join(self.steps)}"
        lines = [f"{self.endpoint}: {self.status}, {said}", *(f"  {_shown(one)}" for one in self.variants)]
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])

    def markdown(self) -> str:
        """For a Prefect artifact."""
        rows = [f"| {v.name} | {v.weight:g} | {v.model_version} | `{v.digest[:12]}` |" for v in self.variants]
        head = f"# {self.endpoint}\n\n{self.status}; {'changed' if self.changed else 'nothing to change'}.\n"
        notes = [f"\n{warning}" for warning in self.warnings]
        return "\n".join([head, "| variant | weight | version | digest |", "| --- | --- | --- | --- |", *rows, *notes])


def run(
    params: DeployParams,
    paths: Paths,
    registry: Registry,
    endpoint: Endpoint,
    name: str,
    documents: Documents | None = None,
    restoring: bool = False,
) -> DeployReport:
    """Make endpoint `name` serve the registry's champion and, if there is one, its challenger.

    `documents` tell whether an experiment is running; `restoring`: it is what served before, and is not judged anew.
    Raises BadInput when nobody is champion, BadData when a version has no digest, GateFailed with every reason when the
    plan is refused, and what the ports raise.
    """
    models = _models(registry, name)
    # The scheduled reconcile and a person's deploy may meet; SageMaker refuses the second while the first is under way.
    with one_at_a_time(paths, "deploy"):
        endpoint.settle(name, params.max_wait_s)
        todo = _plan(params, paths, models, endpoint, name, documents, restoring)
        if todo.refusals:
            raise GateFailed(" ".join(todo.refusals))
        artifacts = {
            model.digest: (_artifact(model, registry, paths), model.version)
            for model in models.values()
            if any(step.digest == model.digest and step.service in ("here", "s3") for step in todo.steps)
        }
        endpoint.carry_out(name, todo.steps, artifacts, todo.wait_s)
        after = endpoint.state(name)
    if after is None:
        raise BadData(f"The endpoint {name} was deleted while it was being changed.")
    changed = todo.action != "nothing"
    steps = tuple(dict.fromkeys(step.operation for step in todo.steps))
    warnings = (*todo.warnings, *_published(models, paths, registry, documents, name))
    report = DeployReport(name, after.status, after.config, changed, tuple(after.variants), warnings, steps)
    write_json(report_path(paths), {**asdict(report), "markdown": report.markdown()})
    return report


def _published(
    models: dict[str, ModelVersion], paths: Paths, registry: Registry, documents: Documents | None, name: str
) -> tuple[str, ...]:
    """Show `models` to the pages. A page that is out of date is no reason to fail: it is a warning."""
    try:
        if documents is not None:
            compare.publish(models, paths, registry, documents, name)
    except CaptionerError as error:
        return (f"The page of the models is not up to date: {error}",)
    return ()


def plan(
    params: DeployParams,
    paths: Paths,
    registry: Registry,
    endpoint: Endpoint,
    name: str,
    documents: Documents | None = None,
) -> Plan:
    """What `run` would do now; changes nothing. Raises what `run` does, but for the refusals, which are in the plan."""
    return _plan(params, paths, _models(registry, name), endpoint, name, documents)


def report_path(paths: Paths) -> Path:
    """Where the report lies, with ``markdown`` in it, ready to be shown."""
    return paths.home / "reports" / "deploy.json"


def _models(registry: Registry, name: str) -> dict[str, ModelVersion]:
    """Alias → model, the champion first."""
    champion = registry.by_alias(name, CHAMPION)
    if champion is None:
        raise BadInput(f"{name} has no champion: run `captioner register`, or set the alias in the registry.")
    challenger = registry.by_alias(name, CHALLENGER)
    models = {CHAMPION: champion} | ({CHALLENGER: challenger} if challenger else {})
    for model in models.values():
        if not model.digest:
            raise BadData(f"Version {model.version} of {model.name} has no digest: it was not registered by captioner.")
    return models


def _plan(
    params: DeployParams,
    paths: Paths,
    models: dict[str, ModelVersion],
    endpoint: Endpoint,
    name: str,
    documents: Documents | None,
    restoring: bool = False,
) -> Plan:
    live = endpoint.live(name, sorted({model.digest for model in models.values()}))
    experiment = documents.read(experiment_key(name)) if documents and params.strategy == "shadow" else None
    wanted = _wanted(params, paths, models, name, live, experiment is not None)
    return planned(replace(wanted, restores=restoring), live)


def _wanted(
    params: DeployParams, paths: Paths, models: dict[str, ModelVersion], name: str, live: Live, experiment: bool
) -> Wanted:
    challenger = models.get(CHALLENGER)
    ramped = live.share_of_ramp(challenger.digest, params.challenger_share) if challenger else None
    share = (params.challenger_share if ramped is None else ramped) if challenger else 0.0
    shadow = params.strategy == "shadow"
    weights = {CHAMPION: 1.0, CHALLENGER: params.shadow_share} if shadow else {CHAMPION: 1.0 - share, CHALLENGER: share}
    variants = tuple(
        WantedVariant(
            name=alias,
            version=model.version,
            digest=model.digest,
            weight=weights[alias],
            gate=model.tags.get(GATE, ""),
            shadow=shadow and alias == CHALLENGER,
        )
        for alias, model in models.items()
    )
    git = git_state(paths.root, MAY_DIFFER)
    expires = None
    if params.ttl_hours:
        expires = (datetime.now(UTC) + timedelta(hours=params.ttl_hours)).isoformat(timespec="seconds")
    by_ramp = ramped is not None and not shadow and not same(ramped, params.challenger_share)
    return Wanted(name, variants, params, git.sha, git.dirty, expires, by_ramp, experiment)


def _artifact(model: ModelVersion, registry: Registry, paths: Paths) -> Path:
    return registry.fetch(model, paths.home / "models" / model.digest[:16])


def _shown(variant: Variant) -> str:
    return f"{variant.name}: weight {variant.weight:g}, version {variant.model_version}, {variant.digest[:12]}"
