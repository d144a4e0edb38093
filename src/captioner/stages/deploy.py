"""deploy: brings the endpoint in line with the registry's aliases. Not a DVC stage: it changes the outside world.

Whoever is champion and challenger in the registry answers under these names; models are swapped beneath them. Setting
an alias in the registry's own UI and reconciling is a way to promote. Knows nothing of AWS: the endpoint is a port.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from captioner.errors import BadData, BadInput
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.ports import Endpoint, EndpointState, ModelVersion, Registry, Variant, VariantSpec
from captioner.records import write_json
from captioner.workspace import one_at_a_time

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class DeployReport:
    """What the endpoint is now. `changed` is False when it was that already."""

    endpoint: str
    status: str
    config: str | None
    changed: bool
    variants: tuple[Variant, ...]

    def render(self) -> str:
        """For a terminal."""
        said = (
            "brought in line with the registry" if self.changed else "already as the registry wants it, nothing changed"
        )
        return "\n".join([f"{self.endpoint}: {self.status}, {said}", *(f"  {_shown(one)}" for one in self.variants)])

    def markdown(self) -> str:
        """For a Prefect artifact."""
        rows = [f"| {v.name} | {v.weight:g} | {v.model_version} | `{v.digest[:12]}` |" for v in self.variants]
        head = f"# {self.endpoint}\n\n{self.status}; {'changed' if self.changed else 'nothing to change'}.\n"
        return "\n".join([head, "| variant | weight | version | digest |", "| --- | --- | --- | --- |", *rows])


def run(params: DeployParams, paths: Paths, registry: Registry, endpoint: Endpoint, name: str) -> DeployReport:
    """Make endpoint `name` serve the registry's champion and, if there is one, its challenger.

    Raises BadInput when nobody is champion, BadData when a version has no digest, and what the two ports raise.
    """
    champion = registry.by_alias(name, CHAMPION)
    if champion is None:
        raise BadInput(f"{name} has no champion: run `captioner register`, or set the alias in the registry.")
    challenger = registry.by_alias(name, CHALLENGER)
    share = params.challenger_share if challenger else 0.0
    models = {CHAMPION: (champion, 1.0 - share)} | ({CHALLENGER: (challenger, share)} if challenger else {})
    specs = [_spec(alias, model, weight, registry, paths) for alias, (model, weight) in models.items()]
    # The scheduled reconcile and a person's deploy may meet; SageMaker refuses the second while the first is under way.
    with one_at_a_time(paths, "deploy"):
        before = endpoint.state(name)
        after = endpoint.apply(name, specs, params.instance_type, params.instances, params.max_wait_s)
    report = DeployReport(name, after.status, after.config, _differs(before, after), tuple(after.variants))
    write_json(report_path(paths), {**asdict(report), "markdown": report.markdown()})
    return report


reconcile = run


def report_path(paths: Paths) -> Path:
    """Where the report lies, with ``markdown`` in it, ready to be shown."""
    return paths.home / "reports" / "deploy.json"


def _spec(alias: str, model: ModelVersion, weight: float, registry: Registry, paths: Paths) -> VariantSpec:
    if not model.digest:
        raise BadData(f"Version {model.version} of {model.name} has no digest: it was not registered by captioner.")
    artifact = registry.fetch(model, paths.home / "models" / model.digest[:16])
    return VariantSpec(alias, artifact, model.digest, model.version, weight)


def _differs(before: EndpointState | None, after: EndpointState) -> bool:
    return before is None or (before.status, before.config, tuple(before.variants)) != (
        after.status,
        after.config,
        tuple(after.variants),
    )


def _shown(variant: Variant) -> str:
    return f"{variant.name}: weight {variant.weight:g}, version {variant.model_version}, {variant.digest[:12]}"
