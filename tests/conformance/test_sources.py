"""What makes this suite worth anything: plain boto3, nothing of ours, and a source for each claim."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALLOWED = {*sys.stdlib_module_names, "boto3", "botocore", "pytest", "tests.conformance.place"}


def test_nothing_of_ours_is_imported() -> None:
    """botocore: its service model and boto3 are all that the suite knows of SageMaker."""
    assert not [name for name in sys.modules if name.split(".")[0] == "captioner"]
    for file in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name in ALLOWED or name.split(".")[0] in ALLOWED, f"{file.name}: {name}"


def test_each_test_names_the_page_or_the_shape_that_it_follows() -> None:
    """botocore: the shapes' documentation is AWS's API reference."""
    for file in HERE.glob("test_*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = ast.get_docstring(node) or ""
                assert "docs.aws.amazon.com" in said or "botocore" in said, f"{file.name}: {node.name}"
