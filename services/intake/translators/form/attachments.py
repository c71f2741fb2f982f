"""Documents with a form: as base64 in its JSON, or as files next to the part `form` of a multipart/form-data body (RFC 7578).

A media type is the sender's statement, and nothing concludes anything from it.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from schemas.model import ShortText
from services.intake import limits, media_types, multipart
from services.intake.translators import cleaning
from services.intake.translators.form import answers
from services.intake.translators.form.definition import FieldOf, Form
from services.intake.translators.form.fields import READERS, SCHEMAS, ParseError, plain_code
from services.intake.translators.inbound_message import InboundMessage, document
from services.intake.translators.translator import PLAIN_NAME, AttachmentContent, Issue, IssueKind, Rejection, reject

FORM_PART = "form"
PART = "part "
"""What stands before the name of a part that is not a file of an attachments field, so that it is refused as an unknown field."""

NO_SUCH_FILE = "is neither the part form nor a file of a field for attachments; see the form's schema"
NOT_BASE64 = "must be the document's bytes in base64, without data: and a media type in front, and not empty"
TITLE = FieldOf(label="Title of the document", to="attachments.0.title")
_TYPE = r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(\s*;[ -~]{0,90})?"
_QUARTET = r"[A-Za-z0-9+/]\s*"
_BASE64 = rf"(({_QUARTET}){{4}})*(({_QUARTET}){{2}}=\s*=|({_QUARTET}){{3}}=)?"

SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "title": {"title": TITLE.label, "anyOf": [SCHEMAS["line"], {"$ref": "#/$defs/not-given-text"}]},
                    "media_type": {
                        "title": "Media type of the document, such as application/pdf",
                        "type": "string",
                        "pattern": f"^{_TYPE}$",
                    },
                    "content": {
                        "title": "Its bytes in base64 (RFC 4648, 4)",
                        "type": "string",
                        "contentEncoding": "base64",
                        "pattern": rf"^(?=.){_BASE64}$",
                    },
                },
                "additionalProperties": False,
                "required": ["media_type", "content"],
            },
            {"$ref": "#/$defs/not-given"},
        ]
    },
    "contains": {"type": "object"},
    "minContains": 0,
    "maxContains": limits.FORM_DOCUMENTS,
}
"""The JSON Schema of a field with attachments."""


class FormDocument(NamedTuple):
    """A document as it was sent."""

    title: ShortText | None
    media_type: str
    content: bytes

    def stored(self, inbound: InboundMessage, referral_id: str) -> tuple[dict[str, Any], AttachmentContent]:
        """Return the document as the referral names it, and as it is stored."""
        stored = document(inbound, referral_id, self.content, self.media_type)
        named = {"reference": stored.reference, "sha256": stored.sha256, "media_type": stored.media_type}
        titled = {"title": self.title} if self.title else {}
        return named | titled | {"size": len(self.content)}, stored


AddIssue = Callable[[str, IssueKind, str], None]


def read(name: str, value: Any, add_issue: AddIssue) -> Iterator[FormDocument]:
    """Yield the documents of a field, in order, and add a fault for each that cannot be read."""
    if not isinstance(value, list):
        add_issue(name, "invalid", "must be a list of documents")
        return
    entries = [entry for entry in value if answers.is_answered(entry)]
    if len(entries) > limits.FORM_DOCUMENTS:
        add_issue(name, "too-long", f"has more than {limits.FORM_DOCUMENTS} documents")
        return
    for number, entry in enumerate(entries):
        found = _document(f"{name}[{number}]", entry, add_issue)
        if found:
            yield found


def _document(place: str, entry: Any, add_issue: AddIssue) -> FormDocument | None:
    if not isinstance(entry, dict):
        add_issue(place, "invalid", "must be an object with title, media_type and content")
        return None
    for key in sorted(entry.keys() - {"title", "media_type", "content"}):
        add_issue(f"{place}.{key}" if PLAIN_NAME.match(key) else place, "invalid", "is not part of a document")
    title = entry.get("title") if answers.is_answered(entry.get("title"), TITLE.type) else None
    read_title = READERS[TITLE.type](title, TITLE) if title is not None else None
    if isinstance(read_title, ParseError):
        add_issue(f"{place}.title", read_title.kind, read_title.explanation)
    media_type, content = _media_type(entry.get("media_type")), _bytes(entry.get("content"))
    if media_type is None:
        add_issue(f"{place}.media_type", "value", "must be a media type such as application/pdf")
    if not content:
        add_issue(f"{place}.content", "value", NOT_BASE64)
    if media_type is None or not content or isinstance(read_title, ParseError):
        return None
    return FormDocument(read_title, media_type, content)


def _media_type(value: Any) -> str | None:
    media_type = plain_code(value)
    return media_type if re.fullmatch(_TYPE, media_type) else None


def _bytes(value: Any) -> bytes | None:
    """Return the bytes of a file, or of a text in base64; None if it is neither."""
    if not isinstance(value, str):
        return value if isinstance(value, bytes) else None
    try:
        return base64.b64decode("".join(cleaning.prose(value).split()), validate=True)
    except (binascii.Error, ValueError):
        return None


# ---- multipart/form-data ---------------------------------------------------------------------------------------------

File = dict[str, Any]
"""A file as an entry of its field: title (the file's name), media_type, content (bytes)."""


def unpacked(form: Form, body: bytes) -> tuple[bytes, dict[str, list[File]]] | Rejection:
    """Return the JSON in a body, and the files next to it by the name of their field."""
    if not form.attachment_fields or not body.lstrip(b"\r\n").startswith(b"--"):
        return body, {}
    try:
        return _separated(form, multipart.parts_of(body))
    except multipart.NotMultipart as error:
        return reject(Issue(FORM_PART, "invalid", str(error)))


def _separated(
    form: Form, parts: list[tuple[multipart.FormPart, bytes]]
) -> tuple[bytes, dict[str, list[File]]] | Rejection:
    bodies = [(part, content) for part, content in parts if part.name == FORM_PART]
    if len(bodies) != 1:
        return reject(Issue(FORM_PART, "required", "must be there as one part: the answers as JSON in UTF-8"))
    [(answered, body)] = bodies
    if not media_types.is_utf8(answered.media_type):
        return reject(Issue(FORM_PART, "not-supported", "must be in UTF-8, and say no other charset"))
    files: dict[str, list[File]] = {}
    for part, content in parts:
        is_empty = not content and not part.filename
        if part.name != FORM_PART and not is_empty:
            file = {"title": part.filename, "media_type": part.media_type, "content": content}
            files.setdefault(_field(form, part), []).append(file)
    return body, files


def _field(form: Form, part: multipart.FormPart) -> str:
    """Return the field of a part: `letters` or `letters[]`. What is not a file, or has no such field, is refused by its name."""
    name = part.name.removesuffix("[]")
    return name if part.filename is not None and name in form.attachment_fields else f"{PART}{name}"
