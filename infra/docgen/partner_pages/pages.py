"""The pages: made from infra/reference_data, and compared with docs/partners."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from infra.docgen.partner_pages import councils, forms, hl7v2
from infra.docgen.partner_pages.markdown import code, table
from services.intake.translators import bars_fhir, council_csv, form
from services.intake.translators import hl7v2 as hl7
from services.reference import directory as hubs
from services.reference import partners
from services.reference.partners import Partner
from services.runtime.settings import CHECKOUT

DIRECTORY = CHECKOUT / "infra" / "reference_data"
FOLDER = CHECKOUT / "docs" / "partners"
MADE = "<!-- Made by `python -m infra.docgen.partner_pages` from {source}. Do not change it here. -->"


def generated(folder: Path = DIRECTORY) -> dict[str, str]:
    """Every page by its file's name, as the reviewed files say it should be. Raises reviewed.Faulty."""
    offers, all_partners, services = hubs.load(folder), partners.load(folder, None), hubs.catalogue(folder)
    pages = {"bars-fhir.md": _text("services/intake/translators/bars_fhir", _bars())}
    for name, one in form.load(folder / "forms", services).items():
        senders = [partner for partner in all_partners if partner.may_send(f"form:{name}")]
        pages[f"{name}.md"] = _text(f"infra/reference_data/forms/{name}.yaml", forms.page(one, senders, offers))
    for name, council in council_csv.load(folder / "councils", services).items():
        page = councils.page(council, _named(all_partners, council.partner), offers)
        pages[f"{council.partner}.md"] = _text(f"infra/reference_data/councils/{name}.yaml", page)
    for name, agreed in hl7.load(folder / "hl7v2", services).items():
        pages[f"{name}.md"] = _text(
            f"infra/reference_data/hl7v2/{name}.yaml", hl7v2.page(agreed, _named(all_partners, name), offers)
        )
    return {**pages, "README.md": _text("infra/reference_data", _index(all_partners))}


def drift(folder: Path = FOLDER, source: Path = DIRECTORY) -> list[str]:
    """Pages that differ from the reviewed files, are missing, or are of a partner that is gone."""
    expected = generated(source)
    existing = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return sorted(name for name in expected.keys() | existing.keys() if expected.get(name) != existing.get(name))


def write(folder: Path = FOLDER, source: Path = DIRECTORY) -> list[str]:
    """Makes the pages agree with the reviewed files; returns the names of those that changed."""
    changed, expected = drift(folder, source), generated(source)
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in expected:
            (folder / name).write_text(expected[name], encoding="utf-8", newline="\n")
        else:
            (folder / name).unlink()
    return changed


def _text(source: str, lines: Iterable[str]) -> str:
    return "\n".join([MADE.format(source=source), "", *lines]).rstrip("\n") + "\n"


def _named(all_partners: partners.Partners, partner_id: str) -> Partner:
    partner = all_partners.by_id(partner_id)
    if partner is None:
        raise LookupError(f"partners.yaml has no partner {partner_id}: see `lightbulb directory check`")
    return partner


def _bars() -> list[str]:
    title, _, rest = (bars_fhir.__doc__ or "").partition("\n")
    return [
        f"# {title.removeprefix('Message Translator for ').rstrip('.')}",
        "",
        "`POST /fhir/$process-message`.",
        rest,
    ]


def _index(all_partners: partners.Partners) -> list[str]:
    return [
        "# What we read, from where, into what",
        "",
        "For each partner, what it may send and the page that says how that is read. A place such as `person.birth_date` is one of our",
        "own referral, whose fields are in [referral.schema.json](../../schemas/contracts/referral.schema.json).",
        "",
        *table(("partner", "sends", "acts for", "feedback by"), _rows(all_partners)),
    ]


def _rows(all_partners: partners.Partners) -> Iterator[tuple[str, ...]]:
    for partner in all_partners:
        if partner.formats:
            others = "anybody" if partner.acts_for == "any" else ", ".join(("itself", *partner.acts_for))
            sends = ", ".join(f"[{sent}]({_page(partner, sent)})" for sent in partner.formats)
            yield f"{partner.name} ({code(partner.id)})", sends, others, partner.feedback.channel


def _page(partner: Partner, sent: str) -> str:
    if sent.startswith("form:"):
        return f"{sent.removeprefix('form:')}.md"
    return "bars-fhir.md" if sent == "bars-fhir" else f"{partner.id}.md"
