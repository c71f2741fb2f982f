"""The fenced blocks of every page, with the mark above each that names its test."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from services.runtime.settings import CHECKOUT

PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "examples").glob("*.md")])

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block. `output`: the text block that follows a block that is run."""

    page: Path
    line: int
    language: str
    mark: str
    text: str
    output: str | None = None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.mark.startswith("tested")


def blocks_of(page: Path, text: str) -> list[Block]:
    """Return the blocks of a page in their order."""
    found = list(_BLOCK.finditer(text))
    return [
        Block(
            page,
            text.count("\n", 0, one.start("language")) + 1,
            one["language"],
            one["mark"] or "",
            one["text"],
            after["text"] if after is not None and after["language"] == "text" else None,
        )
        for one, after in pairwise([*found, None])
        if one is not None
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page, page.read_text())]


def examples_sent() -> set[str]:
    """Return the names of the files in examples/ that blocks of pages send."""
    return {name for block in BLOCKS if block.is_run for name in re.findall(r"examples/([\w.-]+)", block.text)}
