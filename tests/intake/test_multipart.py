"""multipart/form-data as it is read from a stream: every border between chunks, every way to be malformed."""

import email.message
from collections.abc import AsyncIterator, Iterator, Sequence

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake import limits, media_types, multipart
from services.intake.multipart import NotMultipart

BOUNDARY = "----border:1"
CONTENT_TYPE = f'multipart/form-data; boundary="{BOUNDARY}"'
FILE = 'Content-Disposition: form-data; name="file"; filename="one.csv"\r\nContent-Type: text/csv; charset=utf-8'


def a_part(header: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n{header}\r\n\r\n".encode() + content + b"\r\n"


def a_body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def in_chunks(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(*chunks: bytes, content_type: str = CONTENT_TYPE) -> list[tuple[str, str | None, str, bytes]]:
    found = []
    async for part in multipart.parts(in_chunks(chunks), content_type):
        content = b"".join([piece async for piece in part.pieces])
        found.append((part.name, part.filename, part.media_type, content))
    return found


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


NEARLY = [
    b"",
    b"a,b\r\n1,2\r\n",
    b"\r\n--",
    f"\r\n--{BOUNDARY[:-1]}\r\n".encode(),
    f"\r\n--{BOUNDARY}".encode() + b"x\r\n",
    f"\r\n--{BOUNDARY}-x\r\n--{BOUNDARY}\rx".encode(),
    f"--{BOUNDARY}--".encode(),
    b"\r\r\r\n\n-\r\n--" * 3,
]
"""Contents that nearly have a boundary in them."""


@pytest.mark.parametrize("content", NEARLY)
async def test_a_file_is_the_same_bytes_at_every_border_between_two_chunks(content: bytes) -> None:
    body = a_body(a_part('content-disposition: form-data; name="form"', b"{}"), a_part(FILE, content))
    expected = [("form", None, "text/plain", b"{}"), ("file", "one.csv", "text/csv; charset=utf-8", content)]
    for at in range(len(body) + 1):
        assert await read(body[:at], body[at:]) == expected, at
    for size in (1, 2, 3, 7, 16):
        assert await read(*cut(body, size)) == expected, size


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from(NEARLY), min_size=1, max_size=4),
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
)
async def test_every_content_in_any_chunks_is_read_as_it_was_sent(contents: list[bytes], sizes: list[int]) -> None:
    left, chunks = a_body(*(a_part(FILE, content) for content in contents)), []
    while left:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(left[:size])
        left = left[size:]
    assert [content for *_, content in await read(*chunks)] == contents


async def test_a_part_that_is_not_read_is_passed_over() -> None:
    body = a_body(a_part(FILE, b"x" * 500), a_part('Content-Disposition: form-data; name="last"', b"y"))
    names = [part.name async for part in multipart.parts(in_chunks(list(cut(body, 30))), CONTENT_TYPE)]
    assert names == ["file", "last"]


async def test_every_body_that_is_cut_off_is_refused() -> None:
    whole = a_body(a_part(FILE, b"a,b\r\n1,2\r\n")).removesuffix(b"\r\n")
    for end in range(len(whole)):
        with pytest.raises(NotMultipart):
            await read(whole[:end])
    assert len(await read(whole)) == 1


MALFORMED = {
    "another boundary": (a_body(a_part(FILE, b"x")).replace(b"border:1", b"border:2"), "does not begin with"),
    "text in front": (b"Hello\r\n" + a_body(a_part(FILE, b"x")), "does not begin with"),
    "text behind": (a_body(a_part(FILE, b"x")) + b"more", "continues after its last boundary"),
    "a boundary in the file": (
        a_body(a_part(FILE, f"x\r\n--{BOUNDARY}--\r\n1,2".encode())),
        "continues after its last boundary",
    ),
    "line feeds only": (a_body(a_part(FILE, b"x")).replace(b"\r\n", b"\n"), "is not well-formed"),
    "no disposition": (a_body(a_part("Content-Type: text/csv", b"x")), "valid Content-Disposition"),
    "another disposition": (a_body(a_part('Content-Disposition: attachment; name="a"', b"x")), "valid Content-Disp"),
    "no name": (a_body(a_part('Content-Disposition: form-data; filename="a"', b"x")), "valid Content-Disposition"),
    "a name twice": (a_body(a_part('Content-Disposition: form-data; name="a"; name="b"', b"x")), "valid Content-D"),
    "a quote that does not end": (a_body(a_part('Content-Disposition: form-data; name="a', b"x")), "valid Content-D"),
    "a header twice": (a_body(a_part(f"{FILE}\r\ncontent-type: text/html", b"x")), "one header field twice"),
    "base64": (a_body(a_part(f"{FILE}\r\nContent-Transfer-Encoding: base64", b"eA==")), "Content-Transfer-Encoding"),
    "a multipart inside": (
        a_body(a_part('Content-Disposition: form-data; name="a"\r\nContent-Type: multipart/mixed; boundary=b', b"x")),
        "a multipart inside a part",
    ),
    "many parts": (a_body(*[a_part(FILE, b"x")] * (limits.MULTIPART_PARTS + 1)), "more than 20 parts"),
    "many headers": (a_body(a_part("\r\n".join([FILE, *(f"x-{n}: 1" for n in range(20))]), b"x")), "header fields"),
    "a long header": (a_body(a_part(f"{FILE}\r\nx: {'y' * 3_000}", b"x")), "more than 2048 bytes"),
    "a long header name": (a_body(a_part(f"{FILE}\r\n{'y' * 3_000}: x", b"x")), "more than 2048 bytes"),
    "a long name": (a_body(a_part(f'Content-Disposition: form-data; name="{"n" * 256}"', b"x")), "255 characters"),
    "a control character": (a_body(a_part('Content-Disposition: form-data; name="a\tb"', b"x")), "control characters"),
    "nothing": (b"", "is incomplete"),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_body_is_refused_in_any_chunks_without_its_words(what: str) -> None:
    body, says = MALFORMED[what]
    for size in (1, 5, len(body) or 1):
        with pytest.raises(NotMultipart) as refused:
            await read(*cut(body, size))
        assert says in str(refused.value)


NO_BOUNDARY = [
    "",
    "; boundary=",
    '; boundary="a b "',
    f"; boundary={'x' * 71}",
    "; boundary=ä",
    "; boundary=a; boundary=b",
]


@pytest.mark.parametrize("parameters", NO_BOUNDARY)
async def test_a_content_type_without_a_valid_boundary_is_refused(parameters: str) -> None:
    with pytest.raises(NotMultipart, match="needs a boundary"):
        await read(a_body(), content_type=f"multipart/form-data{parameters}")


FILE_NAMES = {
    'filename="a b;c.csv"': "a b;c.csv",
    "filename=plain.csv": "plain.csv",
    r'filename="say \"hello\".csv"': 'say "hello".csv',
    r'filename="C:\temp\one.csv"': "one.csv",
    'filename="../../etc/one.csv"': "one.csv",
    'filename="Zoë.csv"': "Zoë.csv",
    "filename=one.csv; filename*=utf-8''two.csv": "one.csv",
    "filename*=utf-8''Zo%C3%AB.csv": "Zoë.csv",
    'filename=""': "",
    "x=y": None,
}


@pytest.mark.parametrize("parameter", FILE_NAMES)
async def test_the_file_name_is_read_without_its_folder(parameter: str) -> None:
    body = a_body(a_part(f"Content-Disposition: form-data; name=file; {parameter}", b"x"))
    (part,) = await read(body)
    assert part[1] == FILE_NAMES[parameter]


@given(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text("abc \\;=,'*ü", max_size=12))
def test_a_quoted_parameter_is_read_as_the_standard_library_reads_it(name: str, value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    message = email.message.Message()
    message["Content-Type"] = f'text/csv; {name}="{quoted}"'
    assert media_types.parameters(message["Content-Type"]) == {name: message.get_param(name)}


@pytest.mark.parametrize("quotes", [True, False])
async def test_the_body_of_a_client_library_is_read(quotes: bool) -> None:
    form = aiohttp.FormData({"form": "{}"}, quote_fields=quotes)
    form.add_field("file", b"a,b\r\n1,2\r\n", filename="Zoë's export.csv", content_type="application/vnd.ms-excel")
    written = form()
    body = await written.as_bytes()
    plain, file = await read(*cut(body, 11), content_type=written.headers["Content-Type"])
    assert plain[0::3] == ("form", b"{}")
    assert file[2:] == ("application/vnd.ms-excel", b"a,b\r\n1,2\r\n")
    assert quotes or file[1] == "Zoë's export.csv"
