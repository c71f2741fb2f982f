"""Whole names in one cell of a council's row: what is title, given and family name, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.translators.council_csv import names
from services.intake.translators.council_csv.cells import ValueWithWarnings
from services.intake.translators.council_csv.names import NameOrder
from services.intake.translators.form.fields import ParseError

LAST: NameOrder = "surname-last"
FIRST: NameOrder = "surname-first"


def parts(name: str, order: NameOrder) -> tuple[str | None, list[str], str]:
    read: Any = names.read(name, order)
    assert not isinstance(read, ParseError), read.explanation
    value = read.value if isinstance(read, ValueWithWarnings) else read
    return value["title"], value["given_names"], value["family_name"]


def warnings(name: str, order: NameOrder = LAST) -> tuple[str, ...]:
    read = names.read(name, order)
    return read.warnings if isinstance(read, ValueWithWarnings) else ()


CERTAIN = [
    (LAST, "Mrs Ann Surname", "Mrs", ["Ann"], "Surname"),
    (LAST, "Surname", None, [], "Surname"),
    (LAST, "Ann Marie Surname", None, ["Ann", "Marie"], "Surname"),
    # titles stand in front, and the last word that is left is a name
    (LAST, "Mrs Ann Lord", "Mrs", ["Ann"], "Lord"),
    (LAST, "Mr Peter Master", "Mr", ["Peter"], "Master"),
    (LAST, "MRS ANN LORD", "MRS", ["ANN"], "LORD"),
    (LAST, "Mr Lord", "Mr", [], "Lord"),
    (LAST, "Mr Master", "Mr", [], "Master"),
    (LAST, "Lord", None, [], "Lord"),
    (LAST, "Ann Sir", None, ["Ann"], "Sir"),
    (LAST, "Rev Dr Ann Smith", "Rev Dr", ["Ann"], "Smith"),
    (LAST, "The Rev. John Smith", "The Rev.", ["John"], "Smith"),
    (LAST, "Prof Sir John Smith", "Prof Sir", ["John"], "Smith"),
    (LAST, "Mrs. Ann Smith", "Mrs.", ["Ann"], "Smith"),
    (LAST, "Mr.J.R.Smith", "Mr.", ["J.R."], "Smith"),
    (LAST, "Mr J R Smith", "Mr", ["J", "R"], "Smith"),
    # initials are neither titles nor particles
    (LAST, "Mr A.P. Jones", "Mr", ["A.P."], "Jones"),
    (LAST, "Mrs D.E. Smith", "Mrs", ["D.E."], "Smith"),
    (LAST, "D.R. Smith", None, ["D.R."], "Smith"),
    (LAST, "Mr M.R.Smith", "Mr", ["M.R."], "Smith"),
    (LAST, "Mr D.R Smith", "Mr", ["D.R"], "Smith"),
    (FIRST, "SMITH, D.R.", None, ["D.R."], "SMITH"),
    (FIRST, "SMITH, M.S.", None, ["M.S."], "SMITH"),
    (LAST, "小明 王", None, ["小明"], "王"),
    (LAST, "Ann Smith (Mrs)", "Mrs", ["Ann"], "Smith"),
    (LAST, "Mr Dean", "Mr", [], "Dean"),
    (LAST, "Metin And", None, ["Metin"], "And"),
    (LAST, "Jane Rip", None, ["Jane"], "Rip"),
    (LAST, "Ann Late", None, ["Ann"], "Late"),
    # particles, in small letters, in capitals, and without a given name
    (LAST, "Willem van der Berg", None, ["Willem"], "van der Berg"),
    (LAST, "WILLEM VAN DER BERG", None, ["WILLEM"], "VAN DER BERG"),
    (LAST, "Mr van der Berg", "Mr", [], "van der Berg"),
    (LAST, "MR VAN DER BERG", "MR", [], "VAN DER BERG"),
    (LAST, "Ann de la Cruz", None, ["Ann"], "de la Cruz"),
    (LAST, "Oscar De La Hoya", None, ["Oscar"], "De La Hoya"),
    (LAST, "Maria De Souza", None, ["Maria"], "De Souza"),
    (LAST, "Mrs Da Silva", "Mrs", [], "Da Silva"),
    (LAST, "Ann 't Hart", None, ["Ann"], "'t Hart"),
    (LAST, "Sean O' Brien", None, ["Sean"], "O' Brien"),
    (LAST, "Ilse von und zu Berg", None, ["Ilse"], "von und zu Berg"),
    # small letters alone are no particles
    (LAST, "mrs ann mary smith", "mrs", ["ann", "mary"], "smith"),
    # hyphens, apostrophes of every kind, other scripts
    (LAST, "Ann Smith-Jones", None, ["Ann"], "Smith-Jones"),
    (LAST, "Jean-Luc Smith\u2010Jones", None, ["Jean-Luc"], "Smith\u2010Jones"),
    (LAST, "Sean O'Brien", None, ["Sean"], "O'Brien"),
    (LAST, "Sean O\u2019Brien", None, ["Sean"], "O\u2019Brien"),
    (LAST, "Sean O\u2018Brien", None, ["Sean"], "O\u2018Brien"),
    (LAST, "Sean O`Brien", None, ["Sean"], "O`Brien"),
    (LAST, "Sean O\u02bcBrien", None, ["Sean"], "O\u02bcBrien"),
    (LAST, "N'Golo D'Souza", None, ["N'Golo"], "D'Souza"),
    (LAST, "Łucja Żółć", None, ["Łucja"], "Żółć"),
    (LAST, "Zoe\u0308 Fa\u0308rber", None, ["Zoe\u0308"], "Fa\u0308rber"),
    (LAST, "प्रिया शर्मा", None, ["प्रिया"], "शर्मा"),
    (FIRST, "ASHDOWN, Vera May", None, ["Vera", "May"], "ASHDOWN"),
    (FIRST, "Ashdown-Hall , Mrs. Vera", "Mrs.", ["Vera"], "Ashdown-Hall"),
    (FIRST, "VAN DER BERG, Willem (Mr)", "Mr", ["Willem"], "VAN DER BERG"),
    (FIRST, "O'DONNELL-PRYCE, Zoë Anne (Ms)", "Ms", ["Zoë", "Anne"], "O'DONNELL-PRYCE"),
    (FIRST, "SMITH, Ann MRS", "MRS", ["Ann"], "SMITH"),
    (FIRST, "SMITH, Ann, Mrs", "Mrs", ["Ann"], "SMITH"),
    (FIRST, "MRS SMITH, ANN", "MRS", ["ANN"], "SMITH"),
    (FIRST, "SMITH, Mrs", "Mrs", [], "SMITH"),
    (FIRST, "SMITH, Rev Dr Ann", "Rev Dr", ["Ann"], "SMITH"),
    (FIRST, "LORD, Mrs Ann", "Mrs", ["Ann"], "LORD"),
    (FIRST, "Master, Peter", None, ["Peter"], "Master"),
    (FIRST, "SMITH JONES, Ann", None, ["Ann"], "SMITH JONES"),
    (FIRST, "MA, Yo Yo", None, ["Yo", "Yo"], "MA"),
    (FIRST, "SMITH, Ann Ma", None, ["Ann", "Ma"], "SMITH"),
    (FIRST, "SENIOR, John William", None, ["John", "William"], "SENIOR"),
]


@pytest.mark.parametrize(("order", "name", "title", "given", "family"), CERTAIN)
def test_a_certain_name_is_split_without_a_warning(
    order: NameOrder, name: str, title: str | None, given: list[str], family: str
) -> None:
    assert parts(name, order) == (title, given, family)
    assert warnings(name, order) == ()


DOUBTFUL = [
    # letters after a name
    (LAST, "Mr John Brown OBE", "Mr, OBE", ["John"], "Brown", names.SUFFIX),
    (LAST, "Mr John Brown, O.B.E.", "Mr, O.B.E.", ["John"], "Brown", names.SUFFIX),
    (LAST, "John Brown Jr", "Jr", ["John"], "Brown", names.SUFFIX),
    (LAST, "Mr John Brown Snr", "Mr, Snr", ["John"], "Brown", names.SUFFIX),
    (LAST, "Dr Ann Brown MBE PhD", "Dr, MBE, PhD", ["Ann"], "Brown", names.SUFFIX),
    (LAST, "Cllr Ann Brown JP", "Cllr, JP", ["Ann"], "Brown", names.SUFFIX),
    (LAST, "John Brown III", "III", ["John"], "Brown", names.SUFFIX),
    (FIRST, "BROWN OBE, John", "OBE", ["John"], "BROWN", names.SUFFIX),
    (FIRST, "BROWN, John OBE", "OBE", ["John"], "BROWN", names.SUFFIX),
    (FIRST, "BROWN, John, Jr", "Jr", ["John"], "BROWN", names.SUFFIX),
    # words that are both
    (LAST, "Ann Senior", None, ["Ann"], "Senior", names.UNSURE_LAST),
    (LAST, "Mrs Ann Ma", "Mrs", ["Ann"], "Ma", names.UNSURE_LAST),
    (LAST, "Mrs Di Smith", "Mrs", ["Di"], "Smith", names.UNSURE_PARTICLE),
    (LAST, "MR VAN BERG", "MR", ["VAN"], "BERG", names.UNSURE_PARTICLE),
    (LAST, "Minh Van Nguyen", None, ["Minh"], "Van Nguyen", names.UNSURE_PARTICLE),
    (LAST, "Sean O Brien", None, ["Sean", "O"], "Brien", names.UNSURE_PARTICLE),
    (LAST, "Mr AP Jones", "Mr", ["AP"], "Jones", names.UNSURE_PARTICLE),
    (LAST, "LA Green", None, ["LA"], "Green", names.UNSURE_PARTICLE),
    (LAST, "MR AP JONES", "MR", [], "AP JONES", names.UNSURE_PARTICLE),
    # brackets and quotes
    (LAST, "Ann (Annie) Smith", None, ["Ann", "(Annie)"], "Smith", names.BRACKETS),
    (LAST, "Ann [Annie] Smith", None, ["Ann", "[Annie]"], "Smith", names.BRACKETS),
    (LAST, 'Ann "Annie" Smith', None, ["Ann", '"Annie"'], "Smith", names.BRACKETS),
    (LAST, "Ann \u201cAnnie\u201d Smith", None, ["Ann", "\u201cAnnie\u201d"], "Smith", names.BRACKETS),
    (LAST, "Mrs Ann 'Annie' Smith", "Mrs", ["Ann", "'Annie'"], "Smith", names.BRACKETS),
    (LAST, "Ann Smith (nee Jones)", None, ["Ann", "(nee Jones)"], "Smith", names.BRACKETS),
    (FIRST, "SMITH (nee Jones), Ann", None, ["Ann", "(nee Jones)"], "SMITH", names.BRACKETS),
    # surname first in a column of the other order
    (LAST, "Smith, Mr John", "Mr", ["John"], "Smith", names.BY_COMMA),
    (LAST, "Smith, John", None, ["John"], "Smith", names.BY_COMMA),
    (LAST, "van der Berg, Willem", None, ["Willem"], "van der Berg", names.BY_COMMA),
    (LAST, "Smith Jones, Mrs Ann", "Mrs", ["Ann"], "Smith Jones", names.BY_COMMA),
    (LAST, "Lord, Ann", None, ["Ann"], "Lord", names.BY_COMMA),
]


@pytest.mark.parametrize(("order", "name", "title", "given", "family", "warning"), DOUBTFUL)
def test_a_doubtful_name_loses_nothing_and_is_warned_of(
    order: NameOrder, name: str, title: str | None, given: list[str], family: str, warning: str
) -> None:
    assert parts(name, order) == (title, given, family)
    assert warnings(name, order) == (warning,)


REFUSED = [
    *((name, names.TWO_PEOPLE) for name in (
        "Mr & Mrs J Brown", "Mr&Mrs Brown", "Mr and Mrs Brown", "Mr + Mrs Brown", "Mr/Mrs Brown", "Mr Mrs Brown",
        "Ann and Bob Smith", "John & Ann Brown", "Ann &amp; Bob Smith", "MR AND MRS BROWN",
    )),
    *((name, names.DIED) for name in (
        "Mr A Brown (dec'd)", "Mr A Brown (deceased)", "Mr A Brown (dec)", "Ann Smith - DECEASED", "Ann Smith \u2013 RIP",
        "Ann Smith Deceased", "Ann Smith decd", "Ann Smith dec\u2019d", "Ann Smith R.I.P.", "Mrs Ann Smith RIP",
        "the late Ann Smith", "Ann Smith (late)", "Exors of Ann Smith", "Estate of Ann Smith", "Ann Smith, deceased",
    )),
    *((name, names.DASH) for name in (
        "Ann Smith - key safe", "Ann Smith \u2013 widow", "Anne\u2014Marie Smith", "- Smith", "Ann Smith-", "Smith - Jones",
    )),
    *((name, names.SIGNS) for name in (
        "Ann Smith 2", "Ann Smith/Jones", "4 Ann Smith", "Ann Smith?", "Ann Smith: tenant", "ann@example.org", "Ann*Smith",
        "Ann Smith; Bob Smith", "Ann Smith #1", "Ann Smith \u0662", "c/o Ann Smith",
    )),
    *((name, names.COMMAS) for name in (
        "John Smith, Ann Smith", "Smith Jones, Ann", "Mrs Smith, Ann", "Ann Smith, Mrs", "Smith, John, Robert", ",Ann Smith",
    )),
    *((name, names.LETTERS) for name in ("Mr John William Senior", "YO YO MA", "John Brown Junior")),
    *((name, names.INITIAL_LAST) for name in ("Smith J", "Mrs Smith A.", "Smith J A", "SMITH J.A.")),
    *((name, names.SECOND_NAME) for name in (
        "Ann Smith nee Jones", "ANN SMITH N\u00c9E JONES", "Ann Smith aka Jones", "Ann Smith a.k.a. Jones", "Ann or Bob Smith",
        "Ann Smith for Bob Smith",
    )),
    *((name, names.TOO_LONG) for name in ("Mr" + " " * 60_000 + "x", "\u201c" * 20_000)),
    *((name, names.LAST) for name in ("Mrs", "Ann Smith Mrs", "SMITH ANN MRS", "Ann Mrs Smith", "", "(Mrs)")),
    *((name, names.OPEN_BRACKET) for name in ("Ann Smith (", "Ann (Smith", 'Ann "Smith', "Ann Smith)")),
    ("Ann\nSmith", names.ONE_LINE),
    (" ".join("ABCDEFGHIJK") + " Smith", names.TOO_MANY),
]  # fmt: skip


@pytest.mark.parametrize(("name", "refusal"), REFUSED)
def test_what_is_not_understood_as_one_living_person_is_refused(name: str, refusal: ParseError) -> None:
    assert names.read(name, LAST) == refusal


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("SMITH JOHN", names.FIRST),
        ("SMITH,", names.FIRST),
        (", John", names.FIRST),
        ("SMITH, Ann Mrs Jones", names.FIRST),
        ("SMITH, John, Robert", names.COMMAS),
        ("SMITH, John & Ann", names.TWO_PEOPLE),
        ("SMITH, Ann (dec'd)", names.DIED),
        ("SMITH, Ann 2", names.SIGNS),
    ],
)
def test_a_surname_first_name_that_is_not_understood_is_refused(name: str, refusal: ParseError) -> None:
    assert names.read(name, FIRST) == refusal


@pytest.mark.parametrize("name", ["Ann O?Dowd", "Ann O&#39;Dowd", "Ann O\ufffdDowd", "Ann M\u00c3\u00bcller"])
def test_spoilt_letters_do_not_refuse_a_name(name: str) -> None:
    assert parts(name, LAST) == (None, ["Ann"], name.removeprefix("Ann "))


@pytest.mark.parametrize("order", [LAST, FIRST])
@given(text=st.text(st.sampled_from("AbcMrs Lord,.-'()&van der O2\u2019"), max_size=24))
def test_no_letter_of_any_name_is_lost_or_added(order: NameOrder, text: str) -> None:
    text = " ".join(text.split())
    read: Any = names.read(text, order)
    if isinstance(read, ParseError):
        return
    title, given_names, family = parts(text, order)
    found = "".join([*(title or ""), *given_names, *family])
    assert sorted(filter(str.isalpha, found)) == sorted(filter(str.isalpha, text))
    assert family.strip()
    assert not set(family) & set("()[]&,0123456789")


@pytest.mark.parametrize(("text", "refusal"), [
    ("SMITH (DEC'D)", names.DIED), ("DECEASED", names.DIED), ("SMITH & JONES", names.TWO_PEOPLE), ("John and Ann", names.TWO_PEOPLE),
])  # fmt: skip
def test_a_part_of_a_name_that_is_not_one_living_persons_is_refused(text: str, refusal: ParseError) -> None:
    assert names.problem_of_part(text) == refusal


@pytest.mark.parametrize("text", ["SMITH (nee Jones)", "Ann (Annie)", "SMITH/JONES", 'Ann "Annie"'])
def test_a_part_of_a_name_with_brackets_is_kept_with_a_warning(text: str) -> None:
    assert names.problem_of_part(text) == (names.BRACKETS_IN_PART,)


@pytest.mark.parametrize(
    "text", ["Smith", "SMITH-JONES", "van der Berg", "O'Dowd", "Surname107", "Lord", "Vera May", "And"]
)
def test_a_part_of_a_name_is_kept_as_written(text: str) -> None:
    assert names.problem_of_part(text) == ()


@pytest.mark.parametrize("text", ["Smith nee Jones", "Ann or Annie"])
def test_a_part_of_a_name_with_a_second_name_is_kept_with_a_warning(text: str) -> None:
    assert names.problem_of_part(text) == (names.SECOND_NAME_IN_PART,)


def test_a_part_of_a_name_that_is_too_long_is_refused_before_it_is_searched() -> None:
    assert names.problem_of_part("mr" + " " * 60_000 + "x") == names.TOO_LONG
