"""The pages: made from infra/directory, and compared with docs/partners."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from infra.mappings import councils, forms, hl7v2
from infra.mappings.markdown import code, table
from services import directory as hubs
from services import partners
from services.intake.translators import bars_fhir, council_csv, form
from services.intake.translators import hl7v2 as hl7
from services.messaging.settings import CHECKOUT
from services.partners import Partner

DIRECTORY = CHECKOUT / "infra" / "directory"
FOLDER = CHECKOUT / "docs" / "partners"
MADE = "<!-- Made by `python -m infra.mappings` from {source}. Do not change it here. -->"


def generated(folder: Path = DIRECTORY) -> dict[str, str]:
    """Every page by its file's name, as the reviewed files say it should be. Raises reviewed.Faulty."""
    offers, known, services = hubs.load(folder), partners.load(folder, None), hubs.catalogue(folder)
    pages = {"bars-fhir.md": _text("services/intake/translators/bars_fhir", _bars())}
    for name, one in form.load(folder / "forms", services).items():
        senders = [partner for partner in known if partner.may_send(f"form:{name}")]
        pages[f"{name}.md"] = _text(f"infra/directory/forms/{name}.yaml", forms.page(one, senders, offers))
    for name, council in council_csv.load(folder / "councils", services).items():
        page = councils.page(council, _named(known, council.partner), offers)
        pages[f"{council.partner}.md"] = _text(f"infra/directory/councils/{name}.yaml", page)
    for name, agreed in hl7.load(folder / "hl7v2", services).items():
        pages[f"{name}.md"] = _text(
            f"infra/directory/hl7v2/{name}.yaml", hl7v2.page(agreed, _named(known, name), offers)
        )
    return {**pages, "README.md": _text("infra/directory", _index(known))}


def drift(folder: Path = FOLDER, source: Path = DIRECTORY) -> list[str]:
    """Pages that differ from the reviewed files, are missing, or are of a partner that is gone."""
    wanted = generated(source)
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return sorted(name for name in wanted.keys() | kept.keys() if wanted.get(name) != kept.get(name))


def write(folder: Path = FOLDER, source: Path = DIRECTORY) -> list[str]:
    """Makes the pages agree with the reviewed files; returns the names of those that changed."""
    changed, wanted = drift(folder, source), generated(source)
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8", newline="\n")
        else:
            (folder / name).unlink()
    return changed


def _text(source: str, lines: Iterable[str]) -> str:
    return "\n".join([MADE.format(source=source), "", *lines]).rstrip("\n") + "\n"


def _named(known: partners.Partners, partner_id: str) -> Partner:
    found = known.by_id(partner_id)
    if found is None:
        raise LookupError(f"partners.yaml has no partner {partner_id}: see `lightbulb directory check`")
    return found


def _bars() -> list[str]:
    title, _, rest = (bars_fhir.__doc__ or "").partition("\n")
    return [
        f"# {title.removeprefix('Message Translator for ').rstrip('.')}",
        "",
        "`POST /fhir/$process-message`.",
        rest,
    ]


def _index(known: partners.Partners) -> list[str]:
    return [
        "# What we read, from where, into what",
        "",
        "For each partner, what it may send and the page that says how that is read. A place such as `person.birth_date` is one of our",
        "own referral, whose fields are in [referral.schema.json](../../schemas/contracts/referral.schema.json).",
        "",
        *table(("partner", "sends", "acts for", "feedback by"), _rows(known)),
    ]


def _rows(known: partners.Partners) -> Iterator[tuple[str, ...]]:
    for partner in known:
        if partner.formats:
            others = "anybody" if partner.acts_for == "any" else ", ".join(("itself", *partner.acts_for))
            sends = ", ".join(f"[{sent}]({_page(partner, sent)})" for sent in partner.formats)
            yield f"{partner.name} ({code(partner.id)})", sends, others, partner.feedback.channel


def _page(partner: Partner, sent: str) -> str:
    if sent.startswith("form:"):
        return f"{sent.removeprefix('form:')}.md"
    return "bars-fhir.md" if sent == "bars-fhir" else f"{partner.id}.md"
