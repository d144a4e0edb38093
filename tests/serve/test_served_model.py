"""The real thing: an exported artifact, deployed by the stage, answers through the endpoint as it does in process."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.errors import BadImage
from captioner.images import normalise
from captioner.model.captioner import Captioner
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import deploy
from tests.fakes import FakeRegistry
from tests.local_aws import LocalAws
from tests.tiny import write_tiny_model

NAME = "captioner-served"
PARAMS = DeployParams(instance_type="ml.m5.large", instances=1, challenger_share=0.5, max_wait_s=240)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    return write_tiny_model(Paths(root, root / ".captioner"), "merge", "merge")


def pictures() -> dict[str, bytes]:
    """The same scene in forms that TensorFlow alone would read wrongly, or not at all."""
    rng = np.random.default_rng(3)
    scene = Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).resize((120, 80))
    forms = {}
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, mode, kind, options in (
        ("plain", "RGB", "JPEG", {}),
        ("cmyk", "CMYK", "JPEG", {}),
        ("grey", "L", "PNG", {}),
        ("rgba", "RGBA", "PNG", {}),
        ("rotated", "RGB", "JPEG", {"exif": exif}),
        ("webp", "RGB", "WEBP", {}),
    ):
        buffer = io.BytesIO()
        scene.convert(mode).save(buffer, kind, **options)
        forms[name] = buffer.getvalue()
    return forms


def forms(picture: Image.Image) -> dict[str, tuple[bytes, str]]:
    """A picture as a file, as the first API's users send it, and with red and blue exchanged."""
    whole, swapped = io.BytesIO(), io.BytesIO()
    picture.save(whole, "PNG")
    Image.merge("RGB", picture.split()[::-1]).save(swapped, "PNG")
    rows = json.dumps(np.asarray(picture).tolist())
    return {
        "picture": (whole.getvalue(), "image/png"),
        "JSON": (rows.encode(), "application/json"),
        "double JSON": (json.dumps(rows).encode(), "application/json"),
        "blue": (swapped.getvalue(), "image/png"),
    }


def test_the_endpoint_answers_as_the_artifact_does(
    artifact: Path, local_aws: LocalAws, settings: Settings, paths: Paths
) -> None:
    registry = FakeRegistry()
    version = registry.create(NAME, artifact, "run", {})
    registry.set_alias(NAME, "champion", version.version)
    endpoint = SageMakerEndpoint(settings, paths, local_aws.account)
    report = deploy.run(PARAMS, paths, registry, endpoint, NAME)
    assert [(one.name, one.digest) for one in report.variants] == [("champion", version.digest)]
    assert not deploy.run(PARAMS, paths, registry, endpoint, NAME).changed

    here = Captioner.load(artifact, paths.unpacked)
    for name, data in pictures().items():
        best, *others = here.caption([normalise(data)])[0]
        answer = endpoint.invoke(NAME, data, "application/x-image")
        assert answer.variant == "champion"
        assert answer.body["caption"] == best.caption, name
        assert answer.body["log_probability"] == pytest.approx(best.log_probability, abs=1e-4), name
        assert [one["caption"] for one in answer.body["alternatives"]] == [one.caption for one in others], name
        assert answer.body["model"] == {"version": "1", "digest": version.digest}

    # The first API's payload: the picture as a nested list, in JSON of JSON. Its server once saw other colours.
    small = Image.open(io.BytesIO(pictures()["grey"])).resize((224, 224)).convert("RGB")
    red = Image.merge("RGB", (small.getchannel(0), *(small.getchannel(1).point(lambda v: v // 4),) * 2))
    asked = {name: endpoint.invoke(NAME, data, kind).body for name, (data, kind) in forms(red).items()}
    assert asked["double JSON"] == asked["JSON"] == asked["picture"]
    assert asked["blue"]["log_probability"] != asked["picture"]["log_probability"]

    for bad in (b"", b"this is text", pictures()["plain"][:-200]):
        with pytest.raises(BadImage, match=r"image .*\.$"):
            endpoint.invoke(NAME, bad, "image/jpeg")
