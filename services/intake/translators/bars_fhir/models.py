"""The elements of FHIR R4 (4.0.1) that we read, as typed structs; codes that decide something are Literals.

Types follow http://hl7.org/fhir/R4/datatypes.html, names are FHIR's. Elements that R4 requires are required here, so that
these structs and fhir.resources (R4B) agree. Elements that we do not read are ignored here and checked by fhir.resources.
"""

from abc import ABC
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta as Limits
from msgspec import Struct, field

from services.intake import limits

String = Annotated[str, Limits(min_length=1)]
Code = Annotated[str, Limits(min_length=1, pattern=r"^[^\s]+( [^\s]+)*\Z")]
Uri = Annotated[str, Limits(min_length=1, pattern=r"^\S+\Z")]
Id = Annotated[str, Limits(pattern=r"^[A-Za-z0-9\-.]{1,64}\Z")]
Date = Annotated[str, Limits(pattern=r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?\Z")]
DateTime = Annotated[
    str,
    Limits(
        pattern=r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])"
        r"(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?\Z"
    ),
]
Instant = Annotated[
    str,
    Limits(
        pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))\Z"
    ),
]
PositiveInt = Annotated[int, Limits(ge=1)]


class Fhir(Struct, gc=False):
    """An element. No type is converted; elements that we do not read are ignored."""


class FhirCoding(Fhir):
    system: Uri | None = None
    code: Code | None = None
    display: String | None = None


class CodeableConcept(Fhir):
    coding: list[FhirCoding] = []
    text: String | None = None


class Period(Fhir):
    start: DateTime | None = None
    end: DateTime | None = None


class FhirIdentifier(Fhir):
    use: Code | None = None
    system: Uri | None = None
    value: String | None = None
    period: Period | None = None


class Reference(Fhir):
    reference: String | None = None
    identifier: FhirIdentifier | None = None
    display: String | None = None


class TimingRepeat(Fhir):
    dayOfWeek: list[Code] = []
    timeOfDay: list[String] = []
    when: list[Code] = []


class Timing(Fhir):
    repeat: TimingRepeat | None = None
    code: CodeableConcept | None = None


class PlainExtension(Fhir):
    """An extension without nested extensions, with the types of value that we read."""

    url: Uri
    valueString: String | None = None
    valueBoolean: bool | None = None
    valueInteger: int | None = None
    valuePositiveInt: PositiveInt | None = None
    valueDate: Date | None = None
    valueCode: Code | None = None
    valueCoding: FhirCoding | None = None
    valueCodeableConcept: CodeableConcept | None = None
    valueTiming: Timing | None = None


class Extension(PlainExtension):
    extension: list[PlainExtension] = []


class NhsIdentifier(FhirIdentifier):
    extension: list[Extension] = []


class HumanName(Fhir):
    use: Literal["usual", "official", "temp", "nickname", "anonymous", "old", "maiden"] | None = None
    text: String | None = None
    family: String | None = None
    given: list[String] = []
    prefix: list[String] = []
    period: Period | None = None


class ElementExtensions(Fhir):
    """The extensions of a primitive element, such as `_system` of `system`."""

    extension: list[PlainExtension] = []


class FhirContactPoint(Fhir):
    extension: list[PlainExtension] = []
    system: Literal["phone", "fax", "email", "pager", "url", "sms", "other"] | None = None
    system_: ElementExtensions | None = field(name="_system", default=None)
    value: String | None = None
    use: Literal["home", "work", "temp", "old", "mobile"] | None = None
    rank: PositiveInt | None = None
    period: Period | None = None


class FhirAddress(Fhir):
    extension: list[Extension] = []
    use: Literal["home", "work", "temp", "old", "billing"] | None = None
    type: Literal["postal", "physical", "both"] | None = None
    text: String | None = None
    line: list[String] = []
    city: String | None = None
    district: String | None = None
    state: String | None = None
    postalCode: String | None = None
    period: Period | None = None


class Age(Fhir):
    """An age, of which only its presence is read."""


class Range(Fhir):
    """A range, of which only its presence is read."""


class Annotation(Fhir):
    text: String


class Meta(Fhir):
    versionId: Id | None = None
    lastUpdated: Instant | None = None
    security: list[FhirCoding] = []


class Resource(Fhir, tag_field="resourceType"):
    """The elements of every resource; itself a resource of a type that we do not read."""

    id: Id | None = None
    meta: Meta | None = None


if TYPE_CHECKING:
    AnyResource = Resource
else:

    class AnyResource(ABC):  # noqa: B024 - a virtual base class: msgspec gives its values to a hook
        """The type of an element that is a resource: any struct, by its resourceType."""

    AnyResource.register(Resource)


class DomainResource(Resource):
    """A resource that can contain others."""

    contained: list[AnyResource] = []


class MessageSource(Fhir):
    endpoint: Uri


class MessageDestination(Fhir):
    endpoint: Uri
    receiver: Reference | None = None


class MessageHeader(DomainResource, tag="MessageHeader", kw_only=True):
    destination: list[MessageDestination] = []
    eventCoding: FhirCoding | None = None
    reason: CodeableConcept | None = None
    sender: Reference | None = None
    source: MessageSource
    focus: list[Reference] = []


class ServiceRequest(DomainResource, tag="ServiceRequest", kw_only=True):
    identifier: list[FhirIdentifier] = []
    status: Literal["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"]
    intent: Literal[
        "proposal",
        "plan",
        "directive",
        "order",
        "original-order",
        "reflex-order",
        "filler-order",
        "instance-order",
        "option",
    ]
    priority: Literal["routine", "urgent", "asap", "stat"] | None = None
    basedOn: list[Reference] = []
    category: list[CodeableConcept] = []
    code: CodeableConcept | None = None
    orderDetail: list[CodeableConcept] = []
    subject: Reference
    encounter: Reference | None = None
    authoredOn: DateTime | None = None
    requester: Reference | None = None
    performer: list[Reference] = []
    reasonCode: list[CodeableConcept] = []
    reasonReference: list[Reference] = []
    note: list[Annotation] = []
    doNotPerform: bool | None = None


class PatientContact(Fhir):
    extension: list[PlainExtension] = []
    relationship: list[CodeableConcept] = []
    name: HumanName | None = None
    telecom: list[FhirContactPoint] = []
    period: Period | None = None


class Communication(Fhir):
    language: CodeableConcept
    preferred: bool | None = None


class PatientLink(Fhir):
    type: Literal["replaced-by", "replaces", "refer", "seealso"]


class Patient(DomainResource, tag="Patient"):
    extension: list[Extension] = []
    identifier: list[NhsIdentifier] = []
    name: list[HumanName] = []
    telecom: list[FhirContactPoint] = []
    gender: Literal["male", "female", "other", "unknown"] | None = None
    birthDate: Date | None = None
    deceasedBoolean: bool | None = None
    deceasedDateTime: DateTime | None = None
    deceasedDateTime_: ElementExtensions | None = field(name="_deceasedDateTime", default=None)
    address: list[FhirAddress] = []
    contact: list[PatientContact] = []
    communication: list[Communication] = []
    generalPractitioner: list[Reference] = []
    active: bool | None = None
    link: list[PatientLink] = []


class Hospitalization(Fhir):
    dischargeDisposition: CodeableConcept | None = None


class EncounterClass(Fhir, kw_only=True):
    """The class of an Encounter, whose code says whether it is a stay in hospital."""

    system: Uri | None = None
    code: Code
    display: String | None = None


class EncounterLocation(Fhir):
    location: Reference
    status: Literal["planned", "active", "reserved", "completed"] | None = None
    period: Period | None = None


class Encounter(DomainResource, tag="Encounter", kw_only=True):
    extension: list[Extension] = []
    status: Literal[
        "planned",
        "arrived",
        "triaged",
        "in-progress",
        "onleave",
        "finished",
        "cancelled",
        "entered-in-error",
        "unknown",
    ]
    class_: EncounterClass = field(name="class")
    period: Period | None = None
    location: list[EncounterLocation] = []
    serviceProvider: Reference | None = None
    hospitalization: Hospitalization | None = None
    subject: Reference | None = None


class Location(DomainResource, tag="Location"):
    identifier: list[FhirIdentifier] = []
    name: String | None = None
    physicalType: CodeableConcept | None = None
    partOf: Reference | None = None
    status: Literal["active", "suspended", "inactive"] | None = None


class ActivityDetail(Fhir, kw_only=True):
    code: CodeableConcept | None = None
    description: String | None = None
    status: Literal[
        "not-started",
        "scheduled",
        "in-progress",
        "on-hold",
        "completed",
        "cancelled",
        "stopped",
        "unknown",
        "entered-in-error",
    ]
    doNotPerform: bool | None = None


class Activity(Fhir):
    outcomeCodeableConcept: list[CodeableConcept] = []
    reference: Reference | None = None
    detail: ActivityDetail | None = None


class CarePlan(DomainResource, tag="CarePlan", kw_only=True):
    addresses: list[Reference] = []
    activity: list[Activity] = []
    status: Literal["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"]
    intent: Literal["proposal", "plan", "order", "option"]
    subject: Reference
    period: Period | None = None


class Task(DomainResource, tag="Task", kw_only=True):
    code: CodeableConcept | None = None
    description: String | None = None
    status: Literal[
        "draft",
        "requested",
        "received",
        "accepted",
        "rejected",
        "ready",
        "cancelled",
        "in-progress",
        "on-hold",
        "failed",
        "completed",
        "entered-in-error",
    ]
    intent: Literal[
        "unknown",
        "proposal",
        "plan",
        "order",
        "original-order",
        "reflex-order",
        "filler-order",
        "instance-order",
        "option",
    ]
    for_: Reference | None = field(name="for", default=None)


class Condition(DomainResource, tag="Condition", kw_only=True):
    code: CodeableConcept | None = None
    clinicalStatus: CodeableConcept | None = None
    verificationStatus: CodeableConcept | None = None
    subject: Reference
    abatementDateTime: DateTime | None = None
    abatementAge: Age | None = None
    abatementPeriod: Period | None = None
    abatementRange: Range | None = None
    abatementString: String | None = None


class Practitioner(DomainResource, tag="Practitioner"):
    identifier: list[FhirIdentifier] = []
    name: list[HumanName] = []
    telecom: list[FhirContactPoint] = []
    active: bool | None = None


class PractitionerRole(DomainResource, tag="PractitionerRole"):
    practitioner: Reference | None = None
    organization: Reference | None = None
    telecom: list[FhirContactPoint] = []
    active: bool | None = None
    period: Period | None = None


class Organization(DomainResource, tag="Organization"):
    identifier: list[FhirIdentifier] = []
    name: String | None = None
    telecom: list[FhirContactPoint] = []
    active: bool | None = None


class HealthcareService(DomainResource, tag="HealthcareService"):
    active: bool | None = None
    identifier: list[FhirIdentifier] = []
    name: String | None = None


class RelatedPerson(DomainResource, tag="RelatedPerson", kw_only=True):
    relationship: list[CodeableConcept] = []
    name: list[HumanName] = []
    telecom: list[FhirContactPoint] = []
    active: bool | None = None
    patient: Reference
    period: Period | None = None


class ProvisionActor(Fhir):
    role: CodeableConcept
    reference: Reference


class ProvisionData(Fhir):
    reference: Reference


class Provision(Fhir):
    type: Literal["deny", "permit"] | None = None
    period: Period | None = None
    actor: list[ProvisionActor] = []
    action: list[CodeableConcept] = []
    securityLabel: list[FhirCoding] = []
    purpose: list[FhirCoding] = []
    class_: list[FhirCoding] = field(name="class", default_factory=list)
    code: list[CodeableConcept] = []
    dataPeriod: Period | None = None
    data: list[ProvisionData] = []
    provision: list["Provision"] = []


class FhirConsent(DomainResource, tag="Consent", kw_only=True):
    status: Literal["draft", "proposed", "active", "rejected", "inactive", "entered-in-error"]
    category: list[CodeableConcept]
    dateTime: DateTime | None = None
    performer: list[Reference] = []
    policyRule: CodeableConcept | None = None
    provision: Provision | None = None
    scope: CodeableConcept
    patient: Reference | None = None


class Flag(DomainResource, tag="Flag", kw_only=True):
    status: Literal["active", "inactive", "entered-in-error"]
    category: list[CodeableConcept] = []
    code: CodeableConcept
    subject: Reference
    period: Period | None = None


class FhirAttachment(Fhir):
    contentType: Code | None = None
    data: String | None = None
    url: Uri | None = None
    title: String | None = None


class DocumentContent(Fhir):
    attachment: FhirAttachment


class DocumentReference(DomainResource, tag="DocumentReference", kw_only=True):
    status: Literal["current", "superseded", "entered-in-error"]
    description: String | None = None
    content: list[DocumentContent]
    docStatus: Literal["preliminary", "final", "amended", "entered-in-error"] | None = None
    subject: Reference | None = None


class Binary(Resource, tag="Binary", kw_only=True):
    contentType: Code
    data: String | None = None


class Entry(Fhir, kw_only=True):
    fullUrl: Uri | None = None
    resource: AnyResource


class Bundle(Fhir, tag_field="resourceType", tag="Bundle", kw_only=True):
    """The envelope. The entries' resources are decoded one by one, by their type."""

    id: Id
    meta: Meta | None = None
    type: Literal["message"]
    timestamp: Instant | None = None
    entry: Annotated[list[Entry], Limits(min_length=1, max_length=limits.BUNDLE_ENTRIES)]


def resource_type(model: type[Resource]) -> str:
    """Return the FHIR resource type that a struct reads, such as `Patient`."""
    return str(model.__struct_config__.tag)


READ: dict[str, type[Resource]] = {
    resource_type(model): model
    for model in (
        MessageHeader,
        ServiceRequest,
        Patient,
        Encounter,
        Location,
        CarePlan,
        Task,
        Condition,
        Practitioner,
        PractitionerRole,
        Organization,
        HealthcareService,
        RelatedPerson,
        FhirConsent,
        Flag,
        DocumentReference,
        Binary,
    )
}
"""The structs of the resource types that we read; other resources in a message are ignored."""
