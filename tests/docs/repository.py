"""The files of the repository, and what its pages name: links, headings, code spans."""

import re
import subprocess
from functools import cache
from pathlib import Path

from services.runtime.settings import CHECKOUT

_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.M | re.S)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.M)


@cache
def texts() -> dict[str, str]:
    """Return the content of every text file that is tracked, or new and not ignored, by its path."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    found = {}
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = CHECKOUT / name
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:
            found[name] = content.decode("utf-8", "replace")
    return found


def pages() -> dict[str, str]:
    """Return every Markdown page, without its fenced code blocks."""
    return {name: _FENCE.sub("", text) for name, text in texts().items() if name.endswith(".md")}


def folders() -> set[str]:
    """Return the names of the top-level folders."""
    return {name.split("/", 1)[0] for name in texts() if "/" in name}


def links(page: str) -> list[str]:
    """Return the targets of the relative links of a page."""
    return [target for target in _LINK.findall(_SPAN.sub("", page)) if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def spans(page: str) -> list[str]:
    """Return the code spans of a page."""
    return _SPAN.findall(page)


def headings(page: str) -> list[str]:
    """Return the headings of a page as they are written."""
    return _HEADING.findall(page)


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    found: set[str] = set()
    for heading in headings(page):
        anchor = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        repeated = sum(1 for known in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", known))
        found.add(f"{anchor}-{repeated}" if repeated else anchor)
    return found


def exists(path: str) -> bool:
    """Return whether the repository has this file or folder."""
    return (CHECKOUT / path).exists() and Path(path).parts[:1] != ("..",)
