"""What is sent over HTTP for the input of a case about a council's file or a form: path, Content-Type and body."""

from pathlib import Path
from typing import NamedTuple

from tests.field import workbook

CSV, JSON, MULTIPART = "text/csv", "application/json", "multipart/form-data"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
BOUNDARY = "a-boundary-of-the-field-cases"
PATHS = {
    "first-contact": "/forms/first-contact-plus",
    "customer-service": "/forms/customer-service",
    "lightbulb-website": "/forms/self",
    "neighbourhood-teams": "/forms/neighbourhood",
    "uhl": "/forms/hospital-discharge",
}
"""The usual path of each sender of forms."""


class Request(NamedTuple):
    path: str
    media_type: str
    body: bytes


def path_of(sender: str) -> str:
    """The usual path of a sender."""
    if sender.startswith("council-"):
        return f"/councils/{sender.removeprefix('council-')}/referrals"
    return "/forms/coordinator" if sender.startswith("hub-") else PATHS[sender]


def request(file: Path, data: bytes, path: str, wanted: str = "") -> Request:
    """The request with an input file of a case, whose ids in `data` are fresh already, with the Content-Type `wanted`."""
    media_type, body = _body(file, data)
    if wanted == MULTIPART:
        media_type, body = multipart(("file", file.name, media_type, body))
    return Request(path, media_type if wanted == MULTIPART else wanted or media_type, body)


def _body(file: Path, data: bytes) -> tuple[str, bytes]:
    match file.suffix:
        case ".sheets":
            return XLSX, workbook.of_text(data.decode())
        case ".form":
            return f"{MULTIPART}; boundary={BOUNDARY}", data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        case ".csv":
            return CSV, data
        case _:
            return JSON, data


def multipart(*parts: tuple[str, str | None, str, bytes]) -> tuple[str, bytes]:
    """Return Content-Type and body of multipart/form-data; of each part: name, filename, media type, content."""
    body = b""
    for name, filename, media_type, content in parts:
        file = f'; filename="{filename}"' if filename else ""
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: {media_type}\r\n\r\n'
        )
        body += head.encode() + content + b"\r\n"
    return f"{MULTIPART}; boundary={BOUNDARY}", body + f"--{BOUNDARY}--\r\n".encode()
