"""The model registry in MLflow: versions with aliases (never stages), each loadable and servable by MLflow itself.

A version is a pyfunc by models-from-code: ``pyfunc_model.py``, the package's sources and ``model.tar.gz`` as it was
evaluated. No pickle anywhere. Knows nothing of the gate; its verdict comes in as tags.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import captioner
from captioner.adapters import mlflow_store
from captioner.adapters.mlflow_store import in_our_words, quiet_logs
from captioner.digests import sha256_file
from captioner.errors import BadData, BadEnvironment
from captioner.paths import Paths
from captioner.ports import ModelVersion

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ARTIFACT = "artifacts/model.tar.gz"  # where pyfunc puts it, in a version
DIGEST = "captioner.digest"
PREDICTIONS = "captioner.predictions"


class MlflowRegistry:
    """The registered models of one store."""

    def __init__(self, uri: str, paths: Paths) -> None:
        self.uri = uri
        self.paths = paths
        self._connected: MlflowClient | None = None

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Who `alias` is now. Raises ServiceUnavailable when the server does not answer."""
        from mlflow.exceptions import MlflowException

        client = self._client()
        with in_our_words(self.uri):
            try:
                version = client.get_model_version_by_alias(name, alias).version
            except MlflowException as error:
                if _missing(error):
                    return None
                raise
            return self._version(name, str(version))

    def by_digest(self, name: str, digest: str) -> ModelVersion | None:
        """The newest version of the artifact with this SHA-256, or None."""
        client = self._client()
        with in_our_words(self.uri):
            found = client.search_model_versions(f"name = '{name}' and tags.`{DIGEST}` = '{digest}'")
            newest = max((int(version.version) for version in found), default=None)
            return None if newest is None else self._version(name, str(newest))

    def by_version(self, name: str, version: str) -> ModelVersion | None:
        """The version with this number, or None."""
        from mlflow.exceptions import MlflowException

        self._client()
        with in_our_words(self.uri):
            try:
                return self._version(name, version)
            except MlflowException as error:
                if _missing(error):
                    return None
                raise

    def create(self, name: str, artifact: Path, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Register `artifact` as a new version, tagged with its digest and `tags`.

        Raises BadData when the artifact is missing, BadEnvironment when the disk is full, ServiceUnavailable.
        """
        if not artifact.is_file():
            raise BadData(f"{artifact} is missing: run export first (dvc repro runs every stage).")
        client = self._client()
        every = {DIGEST: sha256_file(artifact), **tags}
        with in_our_words(self.uri):
            _ensure_registered_model(client, name)
            model_id, location = self._log_model(client, name, artifact, run_id, every)
            # The location, not models:/ID: SQLite's registry looks an ID up in the process's global tracking store,
            # and creates an mlflow.db in the working folder to do so.
            version = client.create_model_version(name, location, run_id=run_id, tags=every, model_id=model_id)
            shown = json.dumps([{"name": name, "version": int(version.version)}])
            client.set_logged_model_tags(model_id, {"mlflow.modelVersions": shown})
            return self._version(name, str(version.version))

    def tag(self, model: ModelVersion, tags: Mapping[str, str]) -> None:
        client = self._client()
        with in_our_words(self.uri):
            for key, value in tags.items():
                client.set_model_version_tag(model.name, model.version, key, value)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        client = self._client()
        with in_our_words(self.uri):
            client.set_registered_model_alias(name, alias, version)

    def drop_alias(self, name: str, alias: str) -> None:
        """Nobody is `alias` from now on; no error when nobody was."""
        if self.by_alias(name, alias) is not None:
            with in_our_words(self.uri):
                self._client().delete_registered_model_alias(name, alias)

    def fetch(self, model: ModelVersion, folder: Path) -> Path:
        """The model.tar.gz of `model` in `folder`; one that lies there already and is the same is kept.

        Raises BadData when the version holds no such artifact, or another one than its digest says.
        """
        target = folder / "model.tar.gz"
        if not model.digest:
            raise BadData(f"{_called(model)} was not registered by captioner: it has no digest to check.")
        if target.is_file() and sha256_file(target) == model.digest:
            return target
        client = self._client()
        with in_our_words(self.uri):
            location = client.get_model_version_download_uri(model.name, model.version)
        self._download(f"{location}/{ARTIFACT}", target, _called(model))
        found = sha256_file(target)
        if found != model.digest:
            target.unlink()
            raise BadData(f"{_called(model)} has digest {model.digest[:12]}, but its artifact is {found[:12]}.")
        return target

    def fetch_predictions(self, model: ModelVersion, folder: Path) -> Path:
        """The predictions.jsonl that `model` was judged by. Raises BadData when the version has none."""
        if PREDICTIONS not in model.tags:
            raise BadData(f"{_called(model)} has no predictions: it was not registered by captioner.")
        target = folder / "predictions.jsonl"
        self._download(model.tags[PREDICTIONS], target, _called(model))
        return target

    def _download(self, uri: str, target: Path, what: str) -> None:
        """Through a folder aside: a download that is cut short must not look like a file."""
        import mlflow.artifacts
        from mlflow.exceptions import MlflowException

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as aside, in_our_words(self.uri):
                try:
                    file = mlflow.artifacts.download_artifacts(uri, dst_path=aside, tracking_uri=self.uri)
                except (MlflowException, FileNotFoundError) as error:
                    if isinstance(error, MlflowException) and not _missing(error):
                        raise
                    raise BadData(f"{what} has lost its {target.name}: it is no longer at {uri}.") from None
                os.replace(file, target)
        except OSError as error:
            raise BadEnvironment(f"{target.parent} cannot be written: {error.strerror or error}.") from None

    def _log_model(
        self, client: MlflowClient, name: str, artifact: Path, run_id: str, tags: Mapping[str, str]
    ) -> tuple[str, str]:
        """MLflow's logged model, and where its files lie."""
        from mlflow.entities import LoggedModelOutput

        experiment = client.get_run(run_id).info.experiment_id
        # Its tags are shorter than a version's: the digest leads to the version, which has them all.
        logged = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags={DIGEST: tags[DIGEST]})
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch(), prefix=".registering-") as folder:
                model = Path(folder) / "model"
                save_pyfunc(model, artifact, logged.artifact_location, logged.model_id, run_id)
                client.log_model_artifacts(logged.model_id, str(model))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return str(logged.model_id), str(logged.artifact_location)

    def _scratch(self) -> Path:
        self.paths.mlflow.mkdir(parents=True, exist_ok=True)
        return self.paths.mlflow

    def _version(self, name: str, version: str) -> ModelVersion:
        # Only this call fills in the aliases; a search and a look-up by alias leave them out.
        found = self._client().get_model_version(name, version)
        tags = dict(found.tags)
        aliases = tuple(sorted(found.aliases))
        return ModelVersion(name, str(found.version), tags.get(DIGEST, ""), tags, aliases, found.run_id or "")

    def _client(self) -> MlflowClient:
        if self._connected is None:
            self._connected = mlflow_store.client(self.uri)
        return self._connected


def save_pyfunc(
    folder: Path, artifact: Path, location: str = "", model_id: str | None = None, run_id: str = ""
) -> None:
    """Write a pyfunc model around `artifact` into `folder`."""
    import mlflow.pyfunc
    from mlflow.models import Model

    model = Model(artifact_path=location, model_uuid=model_id, run_id=run_id, model_id=model_id)
    with quiet_logs("mlflow.pyfunc"):
        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=model,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"model": str(artifact)},
            code_paths=[str(Path(captioner.__file__).parent)],
            signature=signature(),
            input_example=input_example(),
            pip_requirements=requirements(),
        )


def signature() -> Any:
    """What goes in and what comes out. MLflow's servers read a binary column from base64 text."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    caption = Object([Property("caption", DataType.string), Property("log_probability", DataType.double)])
    outputs = [ColSpec(DataType.string, "caption"), ColSpec(DataType.double, "log_probability")]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema([*outputs, ColSpec(Array(caption), "alternatives")]),
    )


def input_example() -> Any:
    """One small picture, drawn here so that nobody's photo travels with the model."""
    import pandas as pd
    from PIL import Image

    picture = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(picture, "PNG")
    return pd.DataFrame({"image": [picture.getvalue()]})


def requirements() -> list[str]:
    """What the model needs to answer, pinned to what is installed: this package's own needs and its serve extra's."""
    from packaging.requirements import Requirement

    wanted = {"mlflow", "pandas"}  # the pyfunc wrapper itself
    for line in metadata.requires("captioner") or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": "serve"}):
            wanted.add(requirement.name)
    return sorted(f"{name}=={metadata.version(name)}" for name in wanted)


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _missing(error: Exception) -> bool:
    code = getattr(error, "error_code", "")
    # An alias that nobody has is, to MLflow, an invalid parameter.
    return code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or (
        code == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
    )


def _called(model: ModelVersion) -> str:
    return f"Version {model.version} of {model.name}"
