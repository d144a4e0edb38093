"""The demo's own project: its folder, its params.yaml, and two candidates made of the shipped model.

Both have the shipped weights; the challenger decodes greedily where the champion searches with a beam. They go through
the same stages as any candidate: rendered scenes are what they are judged on, since no other data is at hand.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from captioner.bootstrap import run_stage
from captioner.digests import sha256_file
from captioner.errors import CaptionerError
from captioner.ledger import Cause
from captioner.model.trained import ENCODER, MEMORY
from captioner.paths import Paths
from captioner.records import read_json, write_json, write_text
from captioner.shipped import FILES, Shipped

CHAMPION, CHALLENGER = "beam", "greedy"  # the candidates' names
SCENES = 240
DATA = ("acquire", "validate", "features")


def prepare(root: Path, paths: Paths, shipped: Shipped, sample: Path, who: str) -> None:
    """Data, both candidates, and the registry's champion and challenger. What is there already is not made again."""
    cause = Cause(who, "captioner demo")
    for name, export in ((CHAMPION, {}), (CHALLENGER, {"beam": 1, "top": 1})):
        _write(root / "params.yaml", params(shipped, sample, name, export))
        if name == CHAMPION:
            for stage in DATA:
                run_stage(stage, root=root)
        if not _made(paths, shipped, name):
            _trained(paths, shipped, name)
            run_stage("export", name, root=root)
            run_stage("evaluate", name, root=root)
        run_stage("register", root=root, cause=cause)


def params(shipped: Shipped, sample: Path, name: str, export: dict[str, Any]) -> dict[str, Any]:
    """params.yaml for the candidate `name`: the profile `sample`, but for what the shipped model and the demo need."""
    found: dict[str, Any] = yaml.safe_load(sample.read_text(encoding="utf-8"))
    card = shipped.card["params"]
    found |= {
        "profile": "demo",
        "candidates": [name],
        "features": {**card["features"], "views": []},
        "decoders": {name: card["decoders"][shipped.candidate]},
        "export": {**shipped.export.model_dump(), **export},
        # Photos are what the network knows: on rendered scenes both are poor, and must only not differ by much.
        "register": {**found["register"], "min_score": 0.0, "min_distinct": 0.0},
        "deploy": {
            **found["deploy"],
            "strategy": "all-at-once",
            "bake_s": 50,  # five seconds by the demo's clock
            "ramp": {"wait_s": 2, "min_requests": 0},
        },
        "experiment": {
            "effect": 0.5,
            "min_hours": 0.0,
            "min_users": 50,
            "ramp": [25.0, 50.0],
            "step_hours": 0.004,
            # Both share two cores with the crowd, and searching with a beam takes longer: that is no harm.
            "guardrails": {"latency_ratio": 2.0, "errors": 0.05},
        },
    }
    found["acquire"]["sample"]["images"] = SCENES
    found["validate"]["min_images"] = {"train": 50, "dev": 10, "test": 10}
    return found


def _trained(paths: Paths, shipped: Shipped, name: str) -> None:
    """The shipped weights, where training would have put them."""
    target = paths.trained(name)
    target.mkdir(parents=True, exist_ok=True)
    for file in (*FILES, ENCODER, MEMORY):
        if (shipped.folder / file).is_file():
            shutil.copyfile(shipped.folder / file, target / file)
    write_json(
        paths.report("train", name), {**shipped.card["reports"]["train"], "candidate": name, "shipped": shipped.digest}
    )


def _made(paths: Paths, shipped: Shipped, name: str) -> bool:
    """Is this candidate exported and evaluated, of the model that is shipped now?"""
    artifact = paths.exported(name) / "model.tar.gz"
    try:
        evaluated = read_json(paths.report("evaluate", name))["digest"]
        made_of = read_json(paths.report("train", name)).get("shipped")
    except CaptionerError:
        return False
    return made_of == shipped.digest and artifact.is_file() and sha256_file(artifact) == evaluated


def _write(file: Path, value: dict[str, Any]) -> None:
    write_text(file, yaml.safe_dump(value, sort_keys=False))
