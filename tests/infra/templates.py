"""Our CloudFormation templates as Python values, with parameters put in: what the service would be asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "infra"
API, BASE, WATCH = FOLDER / "api.yaml", FOLDER / "base.yaml", FOLDER / "watch.yaml"
NO_VALUE = object()
ACCOUNT, REGION = "123456789012", "us-east-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": NO_VALUE,
}


class _Loader(yaml.SafeLoader):
    pass


def _tag(loader: _Loader, suffix: str, node: Any) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    else:
        value = (
            loader.construct_sequence(node, deep=True)
            if isinstance(node, yaml.SequenceNode)
            else loader.construct_mapping(node, deep=True)
        )
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _tag)


def load(file: Path) -> dict[str, Any]:
    """The template with its short forms spelt out (`!Ref x` → `{"Ref": "x"}`)."""
    found: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    return found


def resolved(template: Mapping[str, Any], **parameters: Any) -> dict[str, dict[str, Any]]:
    """Logical name → resource, of those that these parameters ask for.

    A reference to another resource becomes ``<Name>``, its attribute ``<Name.Attribute>``.
    """
    given = {name: one.get("Default") for name, one in template["Parameters"].items()} | parameters
    values = {**PSEUDO, **given}
    conditions = {name: _truth(test, values) for name, test in template.get("Conditions", {}).items()}
    return {
        name: _value(resource, values, conditions)
        for name, resource in template["Resources"].items()
        if conditions.get(resource.get("Condition"), True)
    }


def _truth(test: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    ((kind, arguments),) = test.items()
    if kind == "Fn::Not":
        return not _truth(arguments[0], values)
    assert kind == "Fn::Equals", kind
    left, right = (_value(one, values, {}) for one in arguments)
    return bool(str(left) == str(right))


def _value(node: Any, values: Mapping[str, Any], conditions: Mapping[str, bool]) -> Any:
    def inner(one: Any) -> Any:
        return _value(one, values, conditions)

    if isinstance(node, list):
        return [one for one in map(inner, node) if one is not NO_VALUE]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((kind, argument),) = node.items()
        if kind == "Ref":
            return values.get(argument, f"<{argument}>")
        if kind == "Fn::GetAtt":
            return f"<{'.'.join(argument)}>"
        if kind == "Fn::Sub":
            return re.sub(r"\$\{([^}]+)\}", lambda match: str(values.get(match[1], f"<{match[1]}>")), argument)
        if kind == "Fn::If":
            return inner(argument[1] if conditions[argument[0]] else argument[2])
        assert not kind.startswith("Fn::"), kind
    return {key: value for key, one in node.items() if (value := inner(one)) is not NO_VALUE}
