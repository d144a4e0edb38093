"""Where a project's files lie: one place that knows the layout, so that no other module spells a path.

Everything under `data` (but `feedback`), `models` and `reports` is a DVC out and holds no absolute path; everything
under `home` (``.captioner/``) is this machine's own state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from captioner.settings import Settings


@dataclass(frozen=True)
class Paths:
    root: Path
    home: Path

    @classmethod
    def of(cls, root: Path, settings: Settings) -> Paths:
        return cls(root=root, home=settings.home)

    # What is computed from what
    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def profiles(self) -> Path:
        return self.root / "profiles"

    @property
    def feedback(self) -> Path:
        """Pictures that users captioned better than the model did: ``captions.csv`` and what it names."""
        return self.root / "data" / "feedback"

    # DVC outs
    @property
    def raw(self) -> Path:
        """acquire: ``manifest.jsonl`` and ``images-NNN.zip``."""
        return self.root / "data" / "raw"

    @property
    def validated(self) -> Path:
        """validate: ``manifest.jsonl`` of the good rows and ``quarantine.jsonl``."""
        return self.root / "data" / "validated"

    @property
    def features(self) -> Path:
        """features: ``index.json`` and ``features-NNN.npy``, in the order of the validated manifest."""
        return self.root / "data" / "features"

    def view(self, view: str) -> Path:
        """The training images' features in another view than the plain one, below `features`."""
        return self.features / view

    @property
    def incoming(self) -> Path:
        return self.root / "data" / "incoming"

    def trained(self, candidate: str) -> Path:
        """train@C: ``decoder.json`` (network and vocabulary) and ``weights.npz``."""
        return self.root / "models" / "candidates" / candidate / "trained"

    def exported(self, candidate: str) -> Path:
        """export@C: ``model.tar.gz``, the artifact."""
        return self.root / "models" / "candidates" / candidate / "exported"

    def predictions(self, candidate: str) -> Path:
        """evaluate@C: ``predictions.jsonl``, saved before anything is scored, and the gallery page."""
        return self.root / "models" / "candidates" / candidate / "evaluated"

    @property
    def shipped(self) -> Path:
        """The model that comes with the code, in git: ``card.json``, ``decoder.json``, ``weights.npz`` and others."""
        return self.root / "models" / "shipped"

    def report(self, stage: str, candidate: str | None = None) -> Path:
        """A stage's report, a small JSON file that is a DVC metric: ``reports/STAGE[-CANDIDATE].json``."""
        return self.root / "reports" / (f"{stage}-{candidate}.json" if candidate else f"{stage}.json")

    def plots(self, stage: str, candidate: str | None = None) -> Path:
        """A stage's plot data (a folder of CSV files): ``reports/plots/STAGE[-CANDIDATE]/``."""
        return self.root / "reports" / "plots" / (f"{stage}-{candidate}" if candidate else stage)

    # This machine's own state
    @property
    def downloads(self) -> Path:
        return self.home / "downloads"

    @property
    def data_docs(self) -> Path:
        return self.home / "data_docs"

    @property
    def checkpoints(self) -> Path:
        return self.home / "checkpoints"

    @property
    def unpacked(self) -> Path:
        """Artifacts unpacked for loading, one folder per digest."""
        return self.home / "artifacts"

    @property
    def rebuilt(self) -> Path:
        """The shipped model's artifact, rebuilt on this machine, one folder for what it was rebuilt from."""
        return self.home / "shipped"

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def prefect(self) -> Path:
        return self.home / "prefect"

    @property
    def aws(self) -> Path:
        return self.home / "aws"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def services(self) -> Path:
        """Which services are up, and where: ``services.json``."""
        return self.home / "services.json"

    def service_url(self, name: str) -> str | None:
        """Where the local stack's service `name` was last started, None when it is not up."""
        try:
            url = json.loads(self.services.read_text(encoding="utf-8"))[name]["url"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return url.rstrip("/") or None if isinstance(url, str) else None

    @property
    def workspace_lock(self) -> Path:
        return self.home / "workspace.lock"
