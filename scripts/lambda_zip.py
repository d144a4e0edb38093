"""Build the zip of the Lambda function in infra/api.yaml: ``.venv/bin/python scripts/lambda_zip.py``.

The packages of requirements/api.txt, by hash, for Lambda's Linux and Python whatever machine this runs on, and this
package. What a function never reads is left out (source maps, botocore's descriptions of services that it does not
ask). The same lock and the same source give the same bytes; the name in the bucket is their SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
PYTHON = "3.12"  # infra/api.yaml's Runtime
SERVICES = ("s3", "sagemaker", "sagemaker-runtime")
LARGEST = 250_000_000  # bytes of a function, unpacked
WHEN = (1980, 1, 1, 0, 0, 0)  # zip's first day: no clock in the bytes


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the zip of the Lambda function in infra/api.yaml.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "captioner-api.zip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="captioner-lambda-") as temporary:
        folder = Path(temporary) / "function"
        if code := fetch(folder):
            print("lambda_zip: the packages could not be fetched; the lines above say why.", file=sys.stderr)
            return code
        add_package(folder, ROOT / "src" / "captioner")
        size = pack(folder, options.out)
    if size > LARGEST:
        print(f"lambda_zip: {size} bytes unpacked; Lambda takes {LARGEST}.", file=sys.stderr)
        return 1
    digest = hashlib.sha256(options.out.read_bytes()).hexdigest()
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {size / 1e6:.0f} MB unpacked")
    print(f"aws s3 cp {options.out} s3://$CAPTIONER_AWS_BUCKET/api/{digest}.zip")
    return 0


def fetch(folder: Path) -> int:
    """The lock's packages for Lambda into `folder`. Returns the exit code."""
    where = ["--python-platform", "x86_64-manylinux_2_28", "--python-version", PYTHON, "--only-binary", ":all:"]
    lock = ["--require-hashes", "--target", str(folder), "-r", str(ROOT / "requirements" / "api.txt")]
    return subprocess.call([str(UV), "pip", "install", "--quiet", *where, *lock])


def add_package(folder: Path, source: Path) -> None:
    """This package as it is in the checkout."""
    shutil.copytree(source, folder / "captioner", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


def pack(folder: Path, out: Path) -> int:
    """Zip what of `folder` is needed, always in the same way. Returns the size unpacked, in bytes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(needed(folder)):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), WHEN)
            entry.external_attr = 0o644 << 16  # Lambda reads as another user
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
            size += file.stat().st_size
    return size


def needed(folder: Path) -> Iterator[Path]:
    """The files that a function reads, or may."""
    for file in folder.rglob("*"):
        if not file.is_file() or file.is_symlink():
            continue
        parts = file.relative_to(folder).parts
        dropped = "__pycache__" in parts or file.suffix in (".map", ".pyc") or parts[0] == "bin"
        tests = "tests" in parts and parts[0] != "captioner"
        described = parts[:2] == ("botocore", "data") and len(parts) > 3 and parts[2] not in SERVICES
        if not dropped and not tests and not described:
            yield file


if __name__ == "__main__":
    sys.exit(main())
