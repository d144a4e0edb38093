"""The zip of the Lambda function: what goes in, and that it is always the same bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from captioner.adapters import s3_documents, s3_events, sagemaker_runtime
from tests.infra.templates import API, load
from tests.loading import script

lambda_zip = script("lambda_zip")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_what_is_needed_is_packed_and_twice_the_same(tmp_path: Path) -> None:
    needed = [
        "botocore/data/partitions.json",
        "botocore/data/s3/2006-03-01/x.json.gz",
        "numpy/core.so",
        "captioner/a.py",
    ]
    others = [
        "botocore/data/ec2/2016-11-15/x.json.gz",
        "numpy/tests/test_x.py",
        "numpy/__pycache__/core.pyc",
        "swagger_ui_bundle/vendor/x.js.map",
        "bin/uvicorn",
    ]
    write(tmp_path / "function", *needed, *others)
    first, second = tmp_path / "a" / "1.zip", tmp_path / "2.zip"
    size = lambda_zip.pack(tmp_path / "function", first)
    lambda_zip.pack(tmp_path / "function", second)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as packed:
        assert packed.namelist() == sorted(needed)
    assert size == sum(map(len, needed))


def test_the_package_goes_in_as_it_is(tmp_path: Path) -> None:
    lambda_zip.add_package(tmp_path, lambda_zip.ROOT / "src" / "captioner")
    assert (tmp_path / "captioner" / "api" / "lambda_handler.py").is_file()
    assert (tmp_path / "captioner" / "release" / "prices.json").is_file()
    assert not list(tmp_path.rglob("*.pyc"))


def test_it_is_for_the_python_that_the_template_asks_for() -> None:
    assert load(API)["Resources"]["Function"]["Properties"]["Runtime"] == f"python{lambda_zip.PYTHON}"


def test_every_service_that_the_router_asks_is_described() -> None:
    source = "".join(Path(str(one.__file__)).read_text() for one in (s3_documents, s3_events, sagemaker_runtime))
    asked = set(re.findall(r'self\._aws\.client\(where, "([a-z0-9-]+)"\)', source))
    assert asked == {"s3", "sagemaker-runtime"}
    assert {*asked, "sagemaker"} == set(lambda_zip.SERVICES)  # the endpoint's status is asked of sagemaker_live
