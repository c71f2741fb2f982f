"""The partner pages of docs/partners, generated from the reviewed files of infra/reference_data."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from infra.docgen.markdown import code, page, table
from infra.docgen.partner_pages import cleaning, councils, forms, hl7v2
from services.intake.translators import bars_fhir, council_csv, form
from services.intake.translators import hl7v2 as hl7
from services.reference import directory as hubs
from services.reference import fillers, partners
from services.reference.partners import Partner


def generated(folder: Path) -> dict[str, str]:
    """Return every page by file name. Raise ConfigError if a reviewed file is not valid."""
    offers, all_partners, services = hubs.load(folder), partners.load(folder, None), hubs.catalogue(folder)
    cleaned = partial(cleaning.of_format, fillers=fillers.load(folder))
    pages = {"bars-fhir.md": page("services/intake/translators/bars_fhir", [*_bars(), "", *cleaned("bars-fhir")])}
    for name, one in form.load(folder / "forms", services).items():
        senders = [partner for partner in all_partners if partner.may_send(f"form:{name}")]
        pages[f"{name}.md"] = page(
            f"infra/reference_data/forms/{name}.yaml",
            [*forms.page(one, senders, offers), *cleaned("form", places=forms.places(one))],
        )
    for name, council in council_csv.load(folder / "councils", services).items():
        lines = councils.page(council, _named(all_partners, council.partner), offers)
        pages[f"{council.partner}.md"] = page(
            f"infra/reference_data/councils/{name}.yaml",
            [*lines, *cleaned("council-csv", places=councils.places(council))],
        )
    for name, agreed in hl7.load(folder / "hl7v2", services).items():
        lines = hl7v2.page(agreed, _named(all_partners, name), offers)
        pages[f"{name}.md"] = page(f"infra/reference_data/hl7v2/{name}.yaml", [*lines, *cleaned("hl7v2")])
    return {**pages, "README.md": page("infra/reference_data", _index(all_partners))}


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
        "# How each partner's messages are read",
        "",
        "For each partner: what it may send, and the page on how that is read. A path such as `person.birth_date` is a field of the",
        "canonical referral ([referral.schema.json](../../schemas/contracts/referral.schema.json)).",
        "",
        *table(("partner", "sends", "acts for", "feedback by"), _rows(all_partners)),
    ]


def _rows(all_partners: partners.Partners) -> Iterator[tuple[str, ...]]:
    for partner in all_partners:
        if partner.formats:
            others = "any referrer" if partner.acts_for == "any" else ", ".join(("itself", *partner.acts_for))
            sends = ", ".join(f"[{sent}]({_page(partner, sent)})" for sent in partner.formats)
            yield f"{partner.name} ({code(partner.id)})", sends, others, partner.feedback.channel


def _page(partner: Partner, sent: str) -> str:
    if sent.startswith("form:"):
        return f"{sent.removeprefix('form:')}.md"
    return "bars-fhir.md" if sent == "bars-fhir" else f"{partner.id}.md"
