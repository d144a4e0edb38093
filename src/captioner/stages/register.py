"""register: every candidate into the model registry, through the gate. Not a DVC stage: it changes the outside world.

The first model that passes its own checks becomes champion; a later one is held against the champion and becomes
challenger when it passes. Whoever does not pass is registered all the same, without an alias and with the reason, and
the stage ends with exit code 1. An artifact that the registry has already is no news: nothing is made twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from captioner.digests import sha256_text
from captioner.errors import BadData, GateFailed
from captioner.evidence import (
    Candidate,
    best_captions,
    evidence,
    per_image,
    read_candidate,
    references_of,
    slices_of,
    test_set_of,
)
from captioner.gate import METRIC_NAMES, Evidence, Verdict, judge
from captioner.ledger import CHALLENGER, CHAMPION
from captioner.params import RegisterParams, load_params
from captioner.paths import Paths
from captioner.ports import ModelVersion, Registry, Run, Tracker
from captioner.records import read_predictions, write_json
from captioner.shipped import SHIPPED, read_shipped, rebuild, shipped_candidate
from captioner.stages.recording import card_tags, dvc_tags, predictions_uri, record, scratch
from captioner.workspace import one_at_a_time

GATE, GATE_KEY = "captioner.gate", "captioner.gate_key"
PASSED = "passed"
Outcome = Literal["champion", "challenger", "refused", "no news"]


@dataclass(frozen=True)
class CandidateReport:
    """What became of one candidate. `verdict` is None when there was nothing to judge."""

    candidate: str
    digest: str
    version: str
    outcome: Outcome
    said: str
    scores: Mapping[str, float]
    run_id: str = ""
    run_url: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class RegisterReport:
    """What became of every candidate, and who holds the aliases afterwards (version numbers)."""

    name: str
    candidates: tuple[CandidateReport, ...]
    champion: str | None
    challenger: str | None
    notes: tuple[str, ...] = ()

    def render(self) -> str:
        """For a terminal."""
        lines = [line for one in self.candidates for line in _lines(one)]
        return "\n".join(
            [
                *self.notes,
                *lines,
                f"{self.name}: champion {_shown(self.champion)}, challenger {_shown(self.challenger)}",
            ]
        )

    def markdown(self) -> str:
        """For a Prefect artifact."""
        head = f"# {self.name}\n\nChampion: {_shown(self.champion)}. Challenger: {_shown(self.challenger)}.\n"
        notes = [f"{note}\n" for note in self.notes]
        return "\n".join([head, *notes, *(_markdown(one) for one in self.candidates)])


def run(
    params: RegisterParams,
    paths: Paths,
    tracker: Tracker,
    registry: Registry,
    name: str,
    candidates: Sequence[str],
    threads: int = 1,
    weights: Path | None = None,
) -> RegisterReport:
    """Register `candidates` in their order, as versions of `name`; the report also goes to ``.captioner/reports``.

    With ``first_champion: shipped`` and no champion yet, the shipped model comes first, by the same way (`threads` and
    `weights` are for building its artifact). Raises GateFailed, after all of them were looked at, when one did not
    pass; BadData when the stages' outs do not belong together; ServiceUnavailable when MLflow does not answer.
    """
    found = [read_candidate(paths, candidate) for candidate in candidates]
    # Two registrations at once would both find the digest missing, and make it two versions.
    with one_at_a_time(paths, "register"):
        desk = _Desk(params, paths, tracker, registry, name)
        first, notes = desk.first_champion(threads, weights)
        reports = tuple(desk.register(candidate) for candidate in (*first, *found))
        aliases = {alias: registry.by_alias(name, alias) for alias in (CHAMPION, CHALLENGER)}
    versions = {alias: version.version if version else None for alias, version in aliases.items()}
    report = RegisterReport(name, reports, versions[CHAMPION], versions[CHALLENGER], notes)
    write_json(report_path(paths), {**asdict(report), "markdown": report.markdown()})
    # A shipped model that is refused here is in nobody's way: what was trained is judged as if there were none.
    refused = [one for one in reports if one.outcome == "refused" and one.candidate != SHIPPED]
    if refused:
        raise GateFailed(" ".join(f"{one.candidate}: {one.said}" for one in refused))
    return report


def report_path(paths: Paths) -> Path:
    """Where the report lies, also when the gate said no: ``markdown`` is in it, ready to be shown."""
    return paths.home / "reports" / "register.json"


class _Desk:
    """One registration: the outside world, and what all candidates share."""

    def __init__(self, params: RegisterParams, paths: Paths, tracker: Tracker, registry: Registry, name: str) -> None:
        self.params, self.paths, self.tracker, self.registry, self.name = params, paths, tracker, registry, name
        self.whole = load_params(paths.params)

    def first_champion(self, threads: int, weights: Path | None) -> tuple[list[Candidate], tuple[str, ...]]:
        """The shipped model, while there is no champion and the params ask for it; else why not, in a sentence."""
        if self.params.first_champion != SHIPPED or self.registry.by_alias(self.name, CHAMPION) is not None:
            return [], ()
        if not self.paths.shipped.is_dir():
            return [], ("There is no shipped model (models/shipped) to be the first champion.",)
        shipped = read_shipped(self.paths.shipped)
        theirs = str(shipped.card["reports"]["evaluate"]["test_set"])
        mine = test_set_of(self.paths, str(shipped.card["reports"]["evaluate"]["split"]))
        if theirs != mine:
            return [], (
                f"The shipped model was evaluated on the test set {theirs[:12]}, and data/validated has {mine[:12]}: "
                "it is not registered as the first champion.",
            )
        return [shipped_candidate(shipped, rebuild(shipped, self.paths, threads, weights))], ()

    def register(self, candidate: Candidate) -> CandidateReport:
        known = self.registry.by_digest(self.name, candidate.digest)
        champion = self.registry.by_alias(self.name, CHAMPION)
        key = self._key(candidate, champion)
        if known is not None and (report := self._no_news(candidate, known, key)) is not None:
            return report
        verdict = self._judge(candidate, champion)
        if known is None:
            tracked = record(self.tracker, candidate, self.whole, self.paths)
            known = self.registry.create(self.name, candidate.artifact, tracked.id, self._tags(candidate, tracked))
        else:
            found = self.tracker.find("captioner.digest", candidate.digest)
            tracked = found if found is not None else record(self.tracker, candidate, self.whole, self.paths)
        alias: Outcome = "champion" if champion is None else "challenger"
        if verdict.passed:
            self.registry.set_alias(self.name, alias, known.version)
        # Last, so that a registration that was cut short is finished by the next one and not taken for done.
        said = PASSED if verdict.passed else f"failed: {' '.join(verdict.reasons)}"
        self.registry.tag(known, {GATE: said, GATE_KEY: key})
        return CandidateReport(
            candidate=candidate.name,
            digest=candidate.digest,
            version=known.version,
            outcome=alias if verdict.passed else "refused",
            said=_said(known.version, alias, verdict),
            scores=candidate.scores,
            run_id=tracked.id,
            run_url=tracked.url,
            verdict=verdict,
        )

    def _no_news(self, candidate: Candidate, known: ModelVersion, key: str) -> CandidateReport | None:
        """The report on an artifact that was judged before, or None when it is to be judged (again).

        One that passed, or that somebody gave an alias, is left alone. A refusal stands for as long as nothing that
        led to it has changed: not the gate's params, not the champion.
        """
        gate = known.tags.get(GATE, "")
        settled = gate == PASSED or bool(known.aliases)
        if not settled and (not gate or known.tags.get(GATE_KEY) != key):
            return None
        alias = f" ({', '.join(known.aliases)})" if known.aliases else ""
        said = f"no news: version {known.version}{alias} holds this artifact already."
        if not settled:
            why = gate.removeprefix("failed: ")
            said = f"refused before as version {known.version}, and nothing has changed since: {why}"
        return CandidateReport(
            candidate=candidate.name,
            digest=candidate.digest,
            version=known.version,
            outcome="no news" if settled else "refused",
            said=said,
            scores=candidate.scores,
        )

    def _key(self, candidate: Candidate, champion: ModelVersion | None) -> str:
        """Everything that a verdict depends on."""
        against = champion.digest if champion else ""
        what = [self.params.model_dump(mode="json"), candidate.digest, candidate.test_set, against]
        return sha256_text(json.dumps(what, sort_keys=True))[:16]

    def _judge(self, candidate: Candidate, champion: ModelVersion | None) -> Verdict:
        references = references_of(self.paths, candidate)
        mine = evidence(self.params, candidate, candidate.name, references)
        theirs = None if champion is None else self._champion_evidence(champion, candidate, references)
        return judge(self.params, mine, theirs)

    def _champion_evidence(
        self, champion: ModelVersion, candidate: Candidate, references: Mapping[str, Sequence[str]]
    ) -> Evidence:
        """What the champion was judged by, scored again by this code. On another test set: nothing to compare."""
        called = f"version {champion.version}"
        test_set = champion.tags.get("captioner.test_set", "")
        if test_set != candidate.test_set:
            return Evidence(called, test_set, 0.0, ())
        with scratch(self.paths) as folder:
            predictions = read_predictions(self.registry.fetch_predictions(champion, folder))
        captions = best_captions(predictions, references, f"The predictions of {called}, the champion,")
        metric = self.params.metric
        return Evidence(
            called=called,
            test_set=test_set,
            score=float(champion.tags.get(f"captioner.test.{metric}", "nan")),
            per_image=per_image(self.params, captions, references),
            slices=slices_of(_tagged_slices(champion), metric),
        )

    def _tags(self, candidate: Candidate, tracked: Run) -> dict[str, str]:
        """The lineage and the scores of a new version. The commit is that of the training, as far as it is known."""
        of_run = {tag: tracked.tag(tag) or "unknown" for tag in ("captioner.git_sha", "captioner.git_dirty")}
        return {
            "captioner.candidate": candidate.name,
            "captioner.weights_digest": candidate.weights_digest,
            "captioner.dataset": candidate.card["dataset"]["name"] if candidate.card else self.whole.acquire.dataset,
            "captioner.split": candidate.split,
            "captioner.test_set": candidate.test_set,
            "captioner.slices": json.dumps(_rounded(candidate.evaluate.get("slices") or {}), sort_keys=True),
            "captioner.predictions": predictions_uri(tracked, candidate),
            **{f"captioner.test.{score}": f"{value:.4f}" for score, value in candidate.scores.items()},
            **dvc_tags(candidate, self.paths),
            **of_run,
            **(card_tags(candidate.card) if candidate.card is not None else {}),
        }


def _rounded(slices: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Short enough for a tag, however many slices there are; the gate looks at whole points."""
    return {name: {score: round(value, 3) for score, value in scores.items()} for name, scores in slices.items()}


def _tagged_slices(champion: ModelVersion) -> dict[str, object]:
    try:
        return {"slices": json.loads(champion.tags.get("captioner.slices", "{}"))}
    except json.JSONDecodeError:
        raise BadData(f"The tag captioner.slices of version {champion.version}, the champion, is not JSON.") from None


def _said(version: str, alias: str, verdict: Verdict) -> str:
    if verdict.passed:
        return f"version {version} is {alias}."
    return f"refused; it is registered as version {version}, without an alias. {' '.join(verdict.reasons)}"


def _lines(one: CandidateReport) -> Iterator[str]:
    yield f"{one.candidate}: {one.said}"
    if one.verdict is not None and one.verdict.passed:
        yield from (f"  {check.sentence}" for check in one.verdict.checks)


def _shown(version: str | None) -> str:
    return f"version {version}" if version else "nobody"


def _figure(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.2f}"


def _markdown(one: CandidateReport) -> str:
    run = f" · [run in MLflow]({one.run_url})" if one.run_url else ""
    lines = [f"## {one.candidate}: {one.outcome}{run}", "", one.said, ""]
    scores = {METRIC_NAMES.get(name, name): value for name, value in one.scores.items()}
    lines += [
        "| score | on the test set |",
        "| --- | ---: |",
        *(f"| {n} | {_figure(v)} |" for n, v in scores.items()),
        "",
    ]
    if one.verdict is None:
        return "\n".join(lines)
    lines += ["| check | passed | why |", "| --- | --- | --- |"]
    lines += [
        f"| {check.name} | {'yes' if check.passed else '**no**'} | {check.sentence} |" for check in one.verdict.checks
    ]
    if one.verdict.slices:
        lines += [
            "",
            "| slice | images | champion | this one | difference | |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
        ]
        for row in one.verdict.slices:
            note = ("passed" if row.passed else "**too low**") if row.judged else "too small to judge"
            numbers = f"{row.champion:.1f} | {row.challenger:.1f} | {row.difference:+.1f}"
            lines.append(f"| {row.name} | {row.images} | {numbers} | {note} |")
    return "\n".join([*lines, ""])
