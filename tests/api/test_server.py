"""The real thing: `captioner api` under uvicorn, real boto3, the local SageMaker and S3, load, signals and outages."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.adapters.aws import LOCAL_BUCKET
from captioner.api.users import Users
from captioner.cli import main
from captioner.experiment.assignment import assigned
from captioner.experiment.events import Exposure, Feedback, event_of, last_words
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.captioner import Captioner
from tests.local_aws import LocalAws, until
from tests.running_api import Clients, RunningApi, by_user, picture, two_variants


@pytest.fixture(scope="session")
def api(local_aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """One API for the session, before an endpoint with both variants; an experiment runs at a half."""
    two_variants(local_aws, "captioner-api")
    one = RunningApi(local_aws, tmp_path_factory.mktemp("api"), "captioner-api")
    one.run_experiment(0.5)
    one.start()
    yield one
    assert one.stop() == 0
    local_aws.client("sagemaker").delete_endpoint(EndpointName="captioner-api")


def test_from_a_picture_to_feedback_to_the_joined_log(api: RunningApi) -> None:
    with api.client(headers={"x-user-id": "joined"}) as client:
        shown = client.post("/v1/captions", content=picture()).json()
        said = client.post(f"/v1/captions/{shown['inference_id']}/feedback", json={"rating": 2, "correction": "grass"})
    assert said.status_code == 200
    # Feedback is there as soon as it is answered, exposures soon.
    feedback = last_words(event_of(Feedback, line) for line in api.logged("feedback"))[shown["inference_id"]]
    found = until(
        lambda: [one for one in api.logged("exposures") if one["inference_id"] == shown["inference_id"]], "exposure"
    )
    (exposure,) = (event_of(Exposure, line) for line in found)
    assert (feedback.rating, feedback.correction) == (2, "grass")
    assert feedback.user == exposure.user
    assert exposure.variant == exposure.assigned == shown["variant"] == shown["assigned"]
    assert exposure.caption == shown["caption"] == f"as the {shown['variant']} says"
    assert (exposure.version, exposure.digest) == (shown["model"]["version"], shown["model"]["digest"])


def test_an_anonymous_user_stays_who_they_are(api: RunningApi) -> None:
    with api.client() as client:  # keeps cookies
        first = client.post("/v1/captions", content=picture())
        variants = {client.post("/v1/captions", content=picture()).json()["variant"] for _ in range(4)}
    assert variants == {first.json()["variant"]}
    ids = {first.json()["inference_id"]}
    found = until(lambda: [one for one in api.logged("exposures") if one["inference_id"] in ids], "the exposure")
    assert len(found) == 1
    with api.client(headers={"x-user-token": first.headers["x-user-token"]}) as other:
        assert other.post("/v1/captions", content=picture()).json()["variant"] in variants


def test_the_pages_answer(api: RunningApi) -> None:
    with api.client() as client:
        assert client.get("/v1/health").json()["endpoint"] == {"name": "captioner-api", "status": "InService"}
        assert client.get("/v1/experiment").json()["experiment"]["id"] == "captioner-api-e"
        assert client.get("/docs").status_code == 200
        assert client.get("/v1/ledger").json() == {"entries": []}


def test_a_body_that_is_too_large_is_a_sentence_over_a_real_connection(api: RunningApi) -> None:
    with api.client() as client:
        answer = client.post("/v1/captions", content=picture() + b"\0" * 12_000_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert client.post("/v1/captions", content=picture()).status_code == 200


def test_a_ramp_moves_users_one_way_only(local_aws: LocalAws, tmp_path: Path) -> None:
    two_variants(local_aws, "captioner-ramped")
    api = RunningApi(local_aws, tmp_path, "captioner-ramped")
    api.run_experiment(0.0)
    api.start()
    users = Users((tmp_path / "home" / "api" / "secret").read_bytes())
    try:
        with Clients(api, 12) as clients:
            for share in (0.1, 0.5, 1.0):
                experiment = api.run_experiment(share)
                names = {str(n): users.of({"x-user-id": str(n)}, {}).pseudonym for n in range(12)}
                everyone = {name: assigned(experiment, pseudonym) for name, pseudonym in names.items()}
                seen = len(clients.answers)
                until(
                    lambda seen=seen, everyone=everyone: (
                        everyone.items() <= {one["user"]: one["variant"] for one in clients.answers[seen:]}.items()
                    ),
                    "the router to follow",
                )
    finally:
        assert api.stop() == 0
    assert clients.statuses.keys() == {200}
    for user, variants in by_user(clients.answers).items():
        assert variants == sorted(variants, reverse=True), user  # champion …, then challenger …
        assert variants[-1] == "challenger"
    local_aws.client("sagemaker").delete_endpoint(EndpointName="captioner-ramped")


def test_sigterm_under_load_loses_no_exposure(local_aws: LocalAws, tmp_path: Path) -> None:
    two_variants(local_aws, "captioner-ended")
    api = RunningApi(local_aws, tmp_path, "captioner-ended")
    api.run_experiment(0.5)
    for _ in range(2):  # a second process goes on where the first one ended
        api.start()
        before = {one["inference_id"] for one in api.logged("exposures")}
        with Clients(api) as clients:
            until(lambda clients=clients: len(clients.answers) > 100, "some load")
            assert api.stop() == 0
        answered = [one["inference_id"] for one in clients.answers]
        exposed = [one["inference_id"] for one in api.logged("exposures") if one["inference_id"] not in before]
        assert clients.statuses.keys() == {200}
        assert len(exposed) == len(set(exposed))
        assert set(exposed) == set(answered)
    local_aws.client("sagemaker").delete_endpoint(EndpointName="captioner-ended")


def test_the_champion_answers_while_the_challenger_is_dead(local_aws: LocalAws, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    two_variants(local_aws, "captioner-halved", START_FILE=str(ready))
    api = RunningApi(local_aws, tmp_path, "captioner-halved")
    api.run_experiment(1.0)
    api.start()
    try:
        with Clients(api, 4) as clients:
            until(lambda: len(clients.answers) > 20, "some load")
            ready.unlink()  # it will not come back
            os.kill(local_aws.instances("captioner-halved", "challenger")[0]["pid"], signal.SIGKILL)
            until(lambda: sum(one["fallback"] for one in clients.answers) > 20, "the champion to stand in")
            ready.touch()
            until(lambda: not clients.answers[-1]["fallback"], "the challenger to be back")
        assert clients.statuses.keys() == {200}
    finally:
        assert api.stop() == 0
    met = Counter((one["variant"], one["fallback"]) for one in clients.answers)
    assert met.keys() == {("challenger", False), ("champion", True)}
    logged = api.logged("exposures")
    assert Counter((one["variant"], one["fallback"]) for one in logged) == met
    assert {one["assigned"] for one in logged} == {"challenger"}
    local_aws.client("sagemaker").delete_endpoint(EndpointName="captioner-halved")


def test_while_the_local_aws_is_away_nothing_of_what_was_shown_is_lost(tmp_path: Path) -> None:
    aws = LocalAws(tmp_path / "aws", startup_s=60).start()
    try:
        two_variants(aws, "captioner-away")
        api = RunningApi(aws, tmp_path, "captioner-away").start()
        with api.client(headers={"x-user-id": "ada"}) as client:
            shown = [client.post("/v1/captions", content=picture()) for _ in range(5)]
            aws.stop()
            failed = client.post("/v1/captions", content=picture())
            assert (failed.status_code, failed.json()["error"]["code"]) == (503, "model_unavailable")
            lost = client.post(f"/v1/captions/{shown[0].json()['inference_id']}/feedback", json={"rating": 1})
            assert lost.status_code == 503  # not thanked for what was not written
            assert client.get("/v1/health").status_code in (200, 503)  # as old as it may be
        assert api.stop() == 0  # leaves what it could not write
        assert api.said("exposures_left")
        aws.start()
        api.start()
        found = until(lambda: api.logged("exposures") if len(api.logged("exposures")) >= 6 else None, "the delivery")
        assert Counter(one["status"] for one in found) == {200: 5, 503: 1}
        assert {one.json()["inference_id"] for one in shown} <= {one["inference_id"] for one in found}
        assert api.logged("feedback") == []
        assert api.stop() == 0
    finally:
        aws.stop()


def test_a_real_model_sees_what_was_sent_and_says_where_it_looked(
    local_aws: LocalAws, tiny_artifact: Path, tmp_path: Path
) -> None:
    """By way of the API a picture gets the caption that it gets in this process: turned, in WebP, or as pixels."""
    local_aws.put_model()  # makes the bucket
    local_aws.client("s3").upload_file(str(tiny_artifact), LOCAL_BUCKET, "real/model.tar.gz")
    container = {"Image": local_aws.account.image, "ModelDataUrl": f"s3://{LOCAL_BUCKET}/real/model.tar.gz"}
    local_aws.client("sagemaker").create_model(
        ModelName="real", PrimaryContainer=container, ExecutionRoleArn=local_aws.account.role
    )
    local_aws.config("real-c", {"champion": ("real", 1.0)})
    assert local_aws.endpoint("captioner-real", "real-c")["EndpointStatus"] == "InService"
    model = Captioner.load(tiny_artifact, tmp_path / "unpacked")
    scene = Image.open(io.BytesIO(golden_images()["chelsea.png"])).resize((120, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    sent = {}
    for name, kind, options in (("webp", "WEBP", {"exif": exif}), ("jpeg", "JPEG", {"exif": exif}), ("png", "PNG", {})):
        out = io.BytesIO()
        scene.save(out, kind, **options)
        sent[name] = out.getvalue()
    api = RunningApi(local_aws, tmp_path, "captioner-real").start()
    try:
        with api.client() as client:
            for name, data in sent.items():
                best = model.caption([normalise(data)])[0][0]
                answer = client.post("/v1/captions", content=data).json()
                assert answer["caption"] == best.caption, name
                assert answer["log_probability"] == pytest.approx(best.log_probability, abs=1e-4), name
                assert answer["image"]["height"] == (80 if name == "png" else 120)
            explained = client.post("/v1/captions?explain=true&top=2&beam=4", content=sent["png"]).json()
            assert len(explained["captions"]) == 2
            looks = explained["attention"]
            assert " ".join(looks["words"]) == explained["caption"]
            assert {len(cells) for cells in looks["weights"]} == {looks["rows"] * looks["columns"]}
            for cells, away in zip(looks["weights"], looks["looked_away"], strict=True):
                assert sum(cells) + away == pytest.approx(1.0, abs=1e-2)
            rows = json.dumps({"data": np.asarray(scene.convert("RGB")).tolist()})
            assert client.post("/", json=rows).json() == model.caption([normalise(sent["png"])])[0][0].caption
            refused = client.post("/v1/captions?top=20", content=sent["png"])  # more than this model's beam
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
            cut = client.post("/v1/captions", content=sent["jpeg"][:-300])
            assert (cut.status_code, cut.json()["error"]["code"]) == (400, "bad_image")
    finally:
        assert api.stop() == 0
    local_aws.client("sagemaker").delete_endpoint(EndpointName="captioner-real")


def test_a_port_that_is_taken_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAPTIONER_ENDPOINT", "captioner-x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["api", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert main(["api", "--port", "70000"]) == 2
    assert "is not a port" in capsys.readouterr().err
