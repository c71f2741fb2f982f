"""Every translator, and how a test delivers to it. A new translator joins the contract by a line here, and golden pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.intake.translators import bars_fhir, council_csv, form, hl7v2
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.reference import directory, fillers, partners
from services.reference.partners import Partner
from tests.builders.bars import a_bars_message, as_bytes
from tests.builders.csv import COUNCILS, a_file
from tests.builders.forms import a_form
from tests.builders.hl7v2 import a_uhl_message, an_lpt_message
from tests.contract.translators.mutations import HL7, JSON, Mutations
from tests.contract.translators.mutations_csv import Csv

CHECKOUT = Path(__file__).resolve().parents[3]
DIRECTORY = CHECKOUT / "infra" / "reference_data"
PARTNERS = partners.load(DIRECTORY, None)
SERVICES = directory.catalogue(DIRECTORY)
FILLERS = fillers.load(DIRECTORY)
BARS = bars_fhir.translator(SERVICES)
FORMS = form.load(DIRECTORY / "forms", SERVICES)
HL7V2 = hl7v2.translator(hl7v2.load(DIRECTORY / "hl7v2", SERVICES))
RECEIVED_AT = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
ATTACHMENT_KEY = b"the attachment key of these tests"


@dataclass(frozen=True)
class Adapter:
    """A translator under test: its golden pairs are golden/<name>/*; `good` is any message that it accepts.
    `mutations` knows its syntax; `conformance` full is the one that the golden pairs are of."""

    name: str
    translate: Translator
    sender: str
    good: Callable[[], bytes]
    mutations: Mutations = JSON
    conformance: str = "full"

    def __str__(self) -> str:
        return f"{self.name} {self.conformance}"

    def delivery(self, body: bytes) -> InboundMessage:
        partner = a_partner(self.sender, self.conformance)
        return InboundMessage(partner, body, RECEIVED_AT, ATTACHMENT_KEY, fillers=FILLERS)


def a_partner(name: str, conformance: str = "full") -> Partner:
    found = PARTNERS.by_id(name)
    assert found is not None
    return found.model_copy(update={"conformance": conformance})


def _a_bars_message() -> bytes:
    return as_bytes(a_bars_message(seed="contract", bundle_id="contract-1"))


def _a_form() -> bytes:
    return as_bytes(a_form(reference="FC-1"))


def _a_discharge_form() -> bytes:
    return (Path(__file__).parent / "golden" / "form-hospital-discharge" / "everything.in").read_bytes().rstrip()


def _of_council(name: str) -> Adapter:
    translate = council_csv.translator(COUNCILS[name])
    return Adapter(f"council-{name}", translate, COUNCILS[name].partner, lambda: a_file(name), Csv(name))


ADAPTERS = [
    Adapter("bars_fhir", BARS, "gp-alder-lane", _a_bars_message),
    Adapter("bars_fhir", BARS, "gp-alder-lane", _a_bars_message, conformance="subset"),
    Adapter("form-first-contact-plus", form.translator(FORMS["first-contact-plus"]), "first-contact", _a_form),
    Adapter("form-hospital-discharge", form.translator(FORMS["hospital-discharge"]), "uhl", _a_discharge_form),
    Adapter("hl7v2-uhl", HL7V2, "uhl", a_uhl_message, HL7),
    Adapter("hl7v2-lpt", HL7V2, "lpt", an_lpt_message, HL7),
    *(_of_council(name) for name in ("blaby", "charnwood", "hinckley-bosworth")),
]

SAME_TRANSLATOR = [
    Adapter("form-coordinator", form.translator(FORMS["coordinator"]), "hub-blaby", _a_form),
    Adapter("form-customer-service", form.translator(FORMS["customer-service"]), "customer-service", _a_form),
    Adapter("form-neighbourhood", form.translator(FORMS["neighbourhood"]), "neighbourhood-teams", _a_form),
    Adapter("form-self", form.translator(FORMS["self"]), "lightbulb-website", _a_form),
    *(_of_council(name) for name in ("harborough", "melton", "nw-leicestershire", "oadby-wigston")),
]
"""Further files for a translator that is held to the contract above: golden pairs only."""
