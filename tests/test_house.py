"""The house rules, held by machine: the pipeline, the docs and the code say the same thing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from captioner.bootstrap import STAGES
from captioner.cli import parser
from captioner.model.trained import ENCODER, MEMORY
from captioner.modelcard import render
from captioner.params import Params
from captioner.serve.server import VARIABLES as CONTAINER
from captioner.settings import VARIABLES
from captioner.shipped import CARD, FILES, MAX_BYTES, PAGE, read_shipped
from tests.imports import closure

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
GRAPH: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
CANDIDATES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["candidates"]
LONGEST_MODULE = 320  # about 300: a formatter's line breaks must not split a module

# Imported by every stage, and none of them decides what a stage computes: the wording of errors, the places of files,
# the progress bar, protocols, and the reader of values that DVC tracks as params already. As deps, a reworded
# message would train every model again.
PLUMBING = {
    "errors.py",
    "params.py",
    "deployparams.py",
    "experimentparams.py",
    "trainparams.py",
    "section.py",
    "paths.py",
    "ports.py",
    "progress.py",
    "settings.py",
}


def verbs() -> dict[str, list[str]]:
    """verb → its actions (`profile` → `use`), as the parser knows them."""
    found: dict[str, list[str]] = {}
    for name, sub in _choices(parser()).items():
        found[name] = list(_choices(sub))
    return found


def _choices(one: Any) -> dict[str, Any]:
    for action in one._actions:
        if isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


def tracked() -> list[Path]:
    """The files that git has, or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


# The pipeline


@pytest.mark.parametrize("stage", GRAPH)
def test_each_command_of_the_graph_is_a_verb_of_the_cli(stage: str) -> None:
    words = GRAPH[stage]["cmd"].split()
    assert words[0] == "${captioner}"
    assert words[1] == stage
    assert words[1] in verbs()
    parser().parse_args([word.replace("${item.candidate}", CANDIDATES[0]) for word in words[1:]])


@pytest.mark.parametrize("stage", GRAPH)
def test_the_deps_of_each_stage_cover_the_code_that_it_imports(stage: str) -> None:
    declared = [ROOT / dep for dep in GRAPH[stage]["deps"] if dep.startswith("src/")]
    missing = [
        str(file.relative_to(ROOT))
        for file in sorted(closure(f"captioner.stages.{stage}"))
        if file.name not in PLUMBING and not any(file == dep or dep in file.parents for dep in declared)
    ]
    assert not missing, f"dvc.yaml: {stage} imports these and does not list them in deps: {', '.join(missing)}"


@pytest.mark.parametrize("stage", GRAPH)
def test_no_stage_lists_code_that_it_does_not_use(stage: str) -> None:
    used = closure(f"captioner.stages.{stage}")
    for dep in GRAPH[stage]["deps"]:
        if dep.startswith("src/"):
            path = ROOT / dep
            assert path.exists(), dep
            assert any(file == path or path in file.parents for file in used), f"{stage} does not use {dep}"


@pytest.mark.parametrize("stage", [*STAGES])
def test_every_stage_has_the_same_shape(stage: str) -> None:
    tree = ast.parse((ROOT / "src" / "captioner" / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    assert run.args.args[0].arg == "params"
    assert "paths" in [one.arg for one in run.args.args]
    assert ast.get_docstring(run), f"stages/{stage}.py: run has no docstring"


# The docs


def test_every_verb_is_in_the_readme() -> None:
    named = [f"captioner {verb} {action}" for verb, actions in verbs().items() for action in actions]
    named += [f"captioner {verb}" for verb in verbs()]
    missing = [name for name in named if not re.search(rf"\b{name}\b", README)]
    assert not missing


def test_the_readme_names_no_verb_that_does_not_exist() -> None:
    written = re.findall(r"(?:^|`|\$ |bin/)captioner ([a-z]+)", README, re.MULTILINE)
    assert set(written) <= set(verbs())


def test_every_setting_is_in_the_readmes_table_and_no_other() -> None:
    rows = re.findall(r"^\| `(CAPTIONER_[A-Z0-9_]+)`", README, re.MULTILINE)
    assert sorted(rows) == sorted(VARIABLES)


def test_every_setting_that_docs_and_workflows_name_exists() -> None:
    for page in [*PAGES, *(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "Makefile", ROOT / ".ci" / "run"]:
        names = set(re.findall(r"\bCAPTIONER_[A-Z0-9_]+\b", page.read_text(encoding="utf-8")))
        assert names <= {*VARIABLES, *CONTAINER}, page.name


def test_every_variable_of_the_container_is_in_its_table_and_no_other() -> None:
    page = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(CAPTIONER_[A-Z0-9_]+)`", page, re.MULTILINE)) == sorted(CONTAINER)


def test_every_param_is_in_a_profile_or_the_readme() -> None:
    shown = README + "".join(file.read_text(encoding="utf-8") for file in (ROOT / "profiles").glob("*.yaml"))
    missing = [key for key in _keys(Params) if not re.search(rf"\b{key}\b", shown)]
    assert not missing


def _keys(model: type[BaseModel]) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        found.append(field.alias or name)
        annotations = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for one in annotations:
            if isinstance(one, type) and issubclass(one, BaseModel):
                found += _keys(one)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(found.read_text(encoding="utf-8")), f"{page.name}: {target}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_decision_that_is_named_is_written_and_numbered_once() -> None:
    written = [re.match(r"(\d{4})-", file.name) for file in (ROOT / "docs" / "decisions").glob("*.md")]
    numbers = [match[1] for match in written if match]
    assert len(numbers) == len(set(numbers)) == len(written)
    for file in [*SOURCES, *PAGES, *(ROOT / "tests").rglob("*.py"), ROOT / "pyproject.toml", ROOT / "dvc.yaml"]:
        named = re.findall(r"docs/decisions/(\d{4})", file.read_text(encoding="utf-8"))
        assert set(named) <= set(numbers), file.name


def test_the_readmes_tree_shows_what_is_there() -> None:
    block = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert block
    parents: list[str] = []
    for line in block[1].splitlines():
        entry = re.match(r"(\s*)([\w.*/-]+/?)\s{2,}", line + "  ")
        assert entry, line
        depth = len(entry[1]) // 2
        parents = [*parents[:depth], entry[2]]
        assert list(ROOT.glob("/".join(part.rstrip("/") for part in parents))) or _made_later(parents[0]), line


def _made_later(top: str) -> bool:
    """DVC's outs: a fresh clone has none yet."""
    return top in {"data/", "models/", "reports/"}


def test_make_targets_named_in_docs_and_workflows_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    callers = [
        *PAGES,
        *(ROOT / ".github" / "workflows").glob("*.yml"),
        ROOT / ".ci" / "run",
        ROOT / ".pre-commit-config.yaml",
    ]
    for caller in callers:
        named = re.findall(r"(?:^|`|entry: |run: )make ([a-z]+)", caller.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, caller.name


def test_hook_workflows_and_ci_run_the_same_commands() -> None:
    assert "entry: make check" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make check\nmake test")
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values():
            commands = [step["run"] for step in job["steps"] if "run" in step and "name" not in step]
            assert commands
            assert all(re.match(r"make |\.ci/run$", command) for command in commands), file.name


# The code


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_modules_are_short_named_for_what_they_do_and_say_what_that_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert file.stem not in {"utils", "util", "common", "helpers", "misc"}
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a module says what it does"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_importing_a_module_does_nothing(file: Path) -> None:
    """At the top level: definitions, imports, constants; no call for its effect, no loop, no file opened."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        guarded = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        if ast.unparse(node).startswith("mlflow.models.set_model("):
            continue  # MLflow's models-from-code: the file is the model
        if not guarded and isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"line {node.lineno}: {ast.unparse(node)[:60]}"
        assert guarded or not isinstance(node, ast.For | ast.While | ast.With), f"line {node.lineno}"


def test_public_functions_that_raise_our_errors_on_purpose_have_docstrings() -> None:
    bare = []
    for file in SOURCES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                raised = {ast.unparse(one.exc) for one in ast.walk(node) if isinstance(one, ast.Raise) and one.exc}
                if any(re.match(r"Bad|ServiceUnavailable|WorkspaceBusy|GateFailed", name) for name in raised):
                    bare.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not bare


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from captioner.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"tensorflow", "keras", "mlflow", "prefect", "boto3", "pandas", "dvc", "great_expectations", "numpy"}
    assert not heavy & set(done.stderr.split())
    assert "caption" in done.stdout


# What must never be committed


def test_no_file_names_a_place_on_somebodys_machine_or_an_index() -> None:
    # Put together here, so that this file does not name them itself.
    places = [rf"(?<![\w.]){root}/" for root in ("/work", "/root", r"/home/\w+", "/Users")]
    hosts = ["pypi" + r"\.org", "python" + "hosted", "--index" + "-url", "--extra" + "-index"]
    pattern = re.compile("|".join([*places, *hosts]))
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = pattern.search(text)
        assert not found, f"{file.relative_to(ROOT)} names {found[0] if found else ''}"


def test_no_photo_of_a_dataset_and_no_big_file_is_committed() -> None:
    shipped = [file for file in tracked() if file.parent == ROOT / "models" / "shipped"]
    assert {file.name for file in shipped} <= {*FILES, ENCODER, MEMORY, CARD, PAGE}
    assert sum(file.stat().st_size for file in shipped) <= MAX_BYTES
    for file in tracked():
        assert file.stat().st_size <= 1_000_000 or file in shipped, f"{file.relative_to(ROOT)} is over 1 MB"
        if file.suffix.lower() in {".jpg", ".jpeg", ".png", ".gif", ".webp"}:
            places = (ROOT / "docs" / "images", ROOT / "src" / "captioner" / "web" / "examples")
            assert any(file.is_relative_to(place) for place in places), f"{file.relative_to(ROOT)}: a picture"


def test_the_shipped_model_is_whole_and_its_page_is_its_cards() -> None:
    folder = ROOT / "models" / "shipped"
    shipped = read_shipped(folder)
    written = (folder / PAGE).read_text(encoding="utf-8")
    assert written == render(shipped.card), f"modelcard.py has changed: write render(card) to {PAGE} again"
    assert shipped.card["git"]["dirty"] is False
    assert shipped.card["dataset"]["name"] != "sample"
