"""Requests checked against botocore's own service model: required members, types, lengths, ranges, patterns, enums.

So a name that AWS would refuse is refused here with a message of the same form.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from captioner.emulator.faults import AwsError, invalid

_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str),
}


@functools.cache
def _model(service: str) -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def check(operation: str, request: Any, service: str = "sagemaker") -> dict[str, Any]:
    """`request` if it fits the operation's input shape; raises AwsError(ValidationException) naming every fault."""
    model = _model(service)
    if operation not in model.operation_names:
        raise AwsError("UnknownOperationException", f"There is no operation {operation}.")
    if not isinstance(request, dict):
        raise AwsError("SerializationException", "The request's body is not a JSON object.")
    shape, faults = model.operation_model(operation).input_shape, []
    if shape is not None:
        faults = _faults(shape, request, "")
    if faults:
        plural = "s" if len(faults) > 1 else ""
        raise invalid(f"{len(faults)} validation error{plural} detected: " + "; ".join(faults))
    return request


def _faults(shape: Any, value: Any, at: str) -> list[str]:
    expected = _TYPES.get(shape.type_name)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and shape.type_name != "boolean")):
        return [_fault(value, at, f"be of type {shape.type_name}")]
    if shape.type_name == "structure":
        return _members(shape, value, at)
    if shape.type_name == "list":
        found = _size(shape, len(value), value, at, "length")
        for index, item in enumerate(value, start=1):
            found += _faults(shape.member, item, f"{at}.{index}.member")
        return found
    if shape.type_name == "map":
        found = _size(shape, len(value), value, at, "length")
        for key, item in value.items():
            found += _faults(shape.key, key, f"{at}.key") + _faults(shape.value, item, f"{at}.{key}.member")
        return found
    if shape.type_name == "string":
        return _string(shape, value, at)
    return _size(shape, value, value, at, "value") if isinstance(value, int | float) else []


def _members(shape: Any, value: dict[str, Any], at: str) -> list[str]:
    found = []
    for name in shape.required_members:
        if value.get(name) is None:
            place = _join(at, name)
            found.append(_fault(None, place, "not be null"))
    for name, item in value.items():
        # AWS ignores members that it does not know; a client with a newer model keeps working.
        if name in shape.members and item is not None:
            found += _faults(shape.members[name], item, _join(at, name))
    return found


def _string(shape: Any, value: str, at: str) -> list[str]:
    found = _size(shape, len(value), value, at, "length")
    if shape.enum and value not in shape.enum:
        shown = ", ".join(shape.enum[:8]) + (", ..." if len(shape.enum) > 8 else "")
        found.append(_fault(value, at, f"satisfy enum value set: [{shown}]"))
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        found.append(_fault(value, at, f"satisfy regular expression pattern: {pattern}"))
    return found


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return True  # a Java-only class such as \p{ASCII}: not worth a second regular expression engine


def _size(shape: Any, size: float, value: Any, at: str, kind: str) -> list[str]:
    word = "length " if kind == "length" else "value "
    found = []
    if (least := shape.metadata.get("min")) is not None and size < least:
        found.append(_fault(value, at, f"have {word}greater than or equal to {least}"))
    if (most := shape.metadata.get("max")) is not None and size > most:
        found.append(_fault(value, at, f"have {word}less than or equal to {most}"))
    return found


def _fault(value: Any, at: str, must: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{at}' failed to satisfy constraint: Member must {must}"


def _join(at: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{at}.{name}" if at else name
