"""What survives `down` and `up`, and a kill; and that nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.local_aws import LocalAws, processes_of, until


def ask(aws: LocalAws, variant: str) -> dict:
    answer = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="kept", Body=b"x", ContentType="image/png", TargetVariant=variant
    )
    found: dict = json.loads(answer["Body"].read())
    return found


def test_everything_survives_and_no_process_is_left(tmp_path: Path) -> None:
    aws = LocalAws(tmp_path / "aws").start()
    try:
        for version in ("1", "2"):
            aws.model(f"kept-m{version}", version)
        aws.config("kept-c", {"champion": ("kept-m1", 0.5), "challenger": ("kept-m2", 0.5)})
        aws.endpoint("kept", "kept-c")
        weights = [{"VariantName": "champion", "DesiredWeight": 0.9}]
        aws.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName="kept", DesiredWeightsAndCapacities=weights
        )
        before = aws.steady("kept")
        aws.client("s3").put_object(Bucket="captioner", Key="kept", Body=b"kept")

        # Orderly: down, then up.
        assert aws.stop() == 0
        assert processes_of(aws.home) == []
        aws.start()
        after = aws.steady("kept")
        for part in ("ProductionVariants", "EndpointConfigName", "EndpointArn", "CreationTime"):
            assert after[part] == before[part]
        assert ask(aws, "challenger")["model"]["version"] == "2"
        assert aws.client("s3").get_object(Bucket="captioner", Key="kept")["Body"].read() == b"kept"

        # In the middle of an update, with SIGKILL: the old config comes back.
        gate = tmp_path / "never"
        aws.model("kept-m3", "3", START_FILE=str(gate))
        aws.config("kept-c3", {"champion": ("kept-m3", 1)})
        aws.client("sagemaker").update_endpoint(EndpointName="kept", EndpointConfigName="kept-c3")
        assert aws.describe("kept")["EndpointStatus"] == "Updating"
        aws.stop(kill=True)
        until(lambda: processes_of(aws.home) == [], "the children to die with the emulator")
        aws.start()
        assert aws.steady("kept")["EndpointConfigName"] == "kept-c"
        assert ask(aws, "champion")["model"]["version"] == "1"

        # S3 itself is killed: it comes back by itself.
        os.kill(aws.health()["s3"]["pid"], signal.SIGKILL)
        client = aws.client("s3")

        def readable() -> bool:
            try:
                return bool(client.get_object(Bucket="captioner", Key="kept")["Body"].read() == b"kept")
            except Exception:
                return False

        until(readable, "S3 to be back")
    finally:
        aws.stop()
    assert processes_of(aws.home) == []


def run(home: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "captioner.emulator", "--port", str(port), "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_one_on_the_same_state_or_port_says_so(local_aws: LocalAws, tmp_path: Path) -> None:
    second = run(local_aws.home, local_aws.port)
    assert (second.returncode, second.stdout) == (2, "")
    assert "Another local AWS already runs on" in second.stderr
    taken = run(tmp_path / "other", local_aws.port)
    assert taken.returncode == 2
    assert f"Port {local_aws.port} cannot be used" in taken.stderr
    assert "Traceback" not in second.stderr + taken.stderr
    assert processes_of(tmp_path / "other") == []
