"""Holds what intake answers against its OpenAPI document: address, status, headers, media type and body."""

import json
import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from tests.intake.running import Reply

Document = Mapping[str, Any]


def operation(document: Document, method: str, path: str) -> tuple[str, Mapping[str, Any]]:
    """What the document says of this request: the address as it stands there, and the operation. A plain address goes first."""
    for address in sorted(document["paths"], key=lambda one: "{" in one):
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(address)), path):
            return address, document["paths"][address][method.lower()]
    raise AssertionError(f"the document has no {path}")


def assert_described(document: Document, method: str, path: str, reply: Reply) -> str:
    """Raises AssertionError where the answer is not as described. What is told of it is never a value of the answer. The address."""
    address, said = operation(document, method, path)
    assert str(reply.status) in said["responses"], f"{method} {address}: {reply.status} is not described"
    response = said["responses"][str(reply.status)]
    must = {"Retry-After", "WWW-Authenticate"} & response.get("headers", {}).keys()
    assert all(name.lower() in reply.headers for name in must), f"{address}: {reply.status} lacks one of {must}"
    _assert_body_described(document, f"{method} {address} {reply.status}", response.get("content", {}), reply)
    return address


def _assert_body_described(document: Document, where: str, content: Mapping[str, Any], reply: Reply) -> None:
    if not content:
        assert reply.body == b"", f"{where}: no body is described"
        return
    given = reply.headers.get("content-type", "").partition(";")[0]
    described = {name.partition(";")[0]: body for name, body in content.items()}
    assert given in described or "*/*" in described, f"{where}: {given} is not described"
    body = described.get(given, described.get("*/*", {}))
    if ref := body.get("schema", {}).get("$ref"):
        value = json.loads(reply.body) if given.endswith("json") else reply.body.decode("utf-8", "replace")
        schema = {"$ref": ref, "components": document["components"]}
        wrong = next(Draft202012Validator(schema).iter_errors(value), None)
        assert wrong is None, f"{where}: {ref} at {wrong.json_path} by {wrong.validator}"
