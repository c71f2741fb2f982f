"""Read media types and the parameters of header fields (RFC 9110, 5.6.6 and 8.3.1)."""

import re

_PARAMETER = re.compile(r""";\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]*+))\s*(?:;\s*\Z)?""")


def essence(media_type: str) -> str:
    """Return a media type without its parameters."""
    return media_type.partition(";")[0].strip().lower()


def parameters(value: str) -> dict[str, str] | None:
    """Return the parameters of a header's value by lower-case name; None if they are malformed, or one stands twice."""
    named: dict[str, str] = {}
    at = value.find(";") if ";" in value else len(value)
    while at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None or match[1].lower() in named:
            return None
        quoted, token = match[2], match[3]
        named[match[1].lower()] = token if quoted is None else quoted.replace('\\"', '"').replace("\\\\", "\\")
        at = match.end()
    return named


def is_utf8(media_type: str) -> bool:
    """Return whether a media type states UTF-8, or no charset."""
    stated = parameters(media_type)
    if stated is None:
        return "charset" not in media_type.lower()
    return stated.get("charset", "utf-8").lower() in ("utf-8", "utf8")
