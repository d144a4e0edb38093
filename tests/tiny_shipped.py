"""A project with a tiny candidate that can be shipped: a real artifact, and reports of an evaluation that never was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from captioner.digests import sha256_file
from captioner.model.artifact import build_in_a_fresh_process
from captioner.paths import Paths
from tests.clones import begin
from tests.evaluated import write_candidate, write_test_set
from tests.tiny import EXPORT, decoder_params


def make_evaluated(root: Path, artifact: Path) -> Path:
    """A project of the profile flickr8k in `root`: its candidate attention is the decoder beside `artifact`."""
    begin(root)
    network = decoder_params("attention", dropout=0.0).model_dump(mode="json", exclude_none=True)
    flickr8k = yaml.safe_load((root / "profiles" / "flickr8k.yaml").read_text())
    decoders = {**flickr8k["decoders"], "attention": network}
    change_params(root, **{**flickr8k, "decoders": decoders, "export": EXPORT.model_dump()})
    change_register(root, min_slice=10, resamples=200)

    paths = Paths(root, root / ".captioner")
    shutil.copytree(artifact.parents[1] / "trained", paths.trained("attention"))
    write_test_set(paths)
    shutil.copytree(paths.validated, paths.raw)
    trained, packed = paths.trained("attention"), root.parent / "exported" / "model.tar.gz"
    # As `captioner export` does it, in a process of its own; `artifact` comes from one that had built things before.
    build_in_a_fresh_process(trained, EXPORT, "attention", packed, None, paths.home / "encoders", threads=1)
    write_candidate(paths, "attention", artifact=packed, weights_digest=sha256_file(trained / "weights.npz"))
    return root


def change_params(root: Path, **sections: Any) -> None:
    """Replace whole sections of the project's params.yaml."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump({**params, **sections}, sort_keys=False))


def change_register(root: Path, **changes: Any) -> None:
    """Change some of the gate's params."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    change_params(root, register={**params["register"], **changes})
