"""The elements of FHIR R4 (4.0.1) that we read, as strict models; codes that decide something are Literals.

Types follow http://hl7.org/fhir/R4/datatypes.html. Elements that R4 requires are required here, so that these models
and fhir.resources (R4B) agree. Elements that we do not read are ignored here and checked by fhir.resources.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.intake import limits

String = Annotated[str, StringConstraints(min_length=1)]
Code = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\s]+( [^\s]+)*$")]
Uri = Annotated[str, StringConstraints(min_length=1, pattern=r"^\S+$")]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-.]{1,64}$")]
Date = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$")]
DateTime = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01])"
        r"(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?$"
    ),
]
Instant = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))$"
    ),
]


class Fhir(BaseModel):
    """Strict base model: no type conversion; elements that we do not read are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class FhirCoding(Fhir):
    system: Uri | None = None
    code: Code | None = None
    display: String | None = None


class CodeableConcept(Fhir):
    coding: list[FhirCoding] = Field(default_factory=list)
    text: String | None = None


class FhirIdentifier(Fhir):
    use: Code | None = None
    system: Uri | None = None
    value: String | None = None


class Reference(Fhir):
    reference: String | None = None
    identifier: FhirIdentifier | None = None
    display: String | None = None


class Period(Fhir):
    start: DateTime | None = None
    end: DateTime | None = None


class PlainExtension(Fhir):
    """An extension without nested extensions, with the types of value that we read."""

    url: Uri
    valueString: String | None = None
    valueBoolean: bool | None = None
    valueInteger: int | None = None
    valueDate: Date | None = None
    valueCode: Code | None = None
    valueCoding: FhirCoding | None = None
    valueCodeableConcept: CodeableConcept | None = None


class Extension(PlainExtension):
    extension: list[PlainExtension] = Field(default_factory=list)


class NhsIdentifier(FhirIdentifier):
    extension: list[Extension] = Field(default_factory=list)


class HumanName(Fhir):
    use: Literal["usual", "official", "temp", "nickname", "anonymous", "old", "maiden"] | None = None
    text: String | None = None
    family: String | None = None
    given: list[String] = Field(default_factory=list)
    prefix: list[String] = Field(default_factory=list)


class ContactPoint(Fhir):
    system: Literal["phone", "fax", "email", "pager", "url", "sms", "other"] | None = None
    value: String | None = None
    use: Literal["home", "work", "temp", "old", "mobile"] | None = None
    rank: Annotated[int, Field(gt=0)] | None = None


class FhirAddress(Fhir):
    extension: list[Extension] = Field(default_factory=list)
    use: Literal["home", "work", "temp", "old", "billing"] | None = None
    text: String | None = None
    line: list[String] = Field(default_factory=list)
    city: String | None = None
    district: String | None = None
    state: String | None = None
    postalCode: String | None = None


class Annotation(Fhir):
    text: String


class Resource(Fhir):
    id: Id | None = None


class MessageSource(Fhir):
    endpoint: Uri


class MessageDestination(Fhir):
    endpoint: Uri


class MessageHeader(Resource):
    resourceType: Literal["MessageHeader"]
    destination: list[MessageDestination] = Field(default_factory=list)
    eventCoding: FhirCoding | None = None
    reason: CodeableConcept | None = None
    sender: Reference | None = None
    source: MessageSource
    focus: list[Reference] = Field(default_factory=list)


class ServiceRequest(Resource):
    resourceType: Literal["ServiceRequest"]
    identifier: list[FhirIdentifier] = Field(default_factory=list)
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
    basedOn: list[Reference] = Field(default_factory=list)
    category: list[CodeableConcept] = Field(default_factory=list)
    code: CodeableConcept | None = None
    orderDetail: list[CodeableConcept] = Field(default_factory=list)
    subject: Reference
    encounter: Reference | None = None
    authoredOn: DateTime | None = None
    requester: Reference | None = None
    performer: list[Reference] = Field(default_factory=list)
    reasonCode: list[CodeableConcept] = Field(default_factory=list)
    reasonReference: list[Reference] = Field(default_factory=list)
    note: list[Annotation] = Field(default_factory=list)


class PatientContact(Fhir):
    relationship: list[CodeableConcept] = Field(default_factory=list)
    name: HumanName | None = None
    telecom: list[ContactPoint] = Field(default_factory=list)


class Communication(Fhir):
    language: CodeableConcept
    preferred: bool | None = None


class Patient(Resource):
    resourceType: Literal["Patient"]
    extension: list[Extension] = Field(default_factory=list)
    identifier: list[NhsIdentifier] = Field(default_factory=list)
    name: list[HumanName] = Field(default_factory=list)
    telecom: list[ContactPoint] = Field(default_factory=list)
    gender: Literal["male", "female", "other", "unknown"] | None = None
    birthDate: Date | None = None
    address: list[FhirAddress] = Field(default_factory=list)
    contact: list[PatientContact] = Field(default_factory=list)
    communication: list[Communication] = Field(default_factory=list)
    generalPractitioner: list[Reference] = Field(default_factory=list)


class Hospitalization(Fhir):
    dischargeDisposition: CodeableConcept | None = None


class EncounterLocation(Fhir):
    location: Reference


class Encounter(Resource):
    resourceType: Literal["Encounter"]
    extension: list[Extension] = Field(default_factory=list)
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
    class_: FhirCoding = Field(alias="class")
    period: Period | None = None
    location: list[EncounterLocation] = Field(default_factory=list)
    serviceProvider: Reference | None = None


class Location(Resource):
    resourceType: Literal["Location"]
    identifier: list[FhirIdentifier] = Field(default_factory=list)
    name: String | None = None
    physicalType: CodeableConcept | None = None
    partOf: Reference | None = None


class ActivityDetail(Fhir):
    code: CodeableConcept | None = None
    description: String | None = None


class Activity(Fhir):
    outcomeCodeableConcept: list[CodeableConcept] = Field(default_factory=list)
    reference: Reference | None = None
    detail: ActivityDetail | None = None


class CarePlan(Resource):
    resourceType: Literal["CarePlan"]
    addresses: list[Reference] = Field(default_factory=list)
    activity: list[Activity] = Field(default_factory=list)


class Task(Resource):
    resourceType: Literal["Task"]
    code: CodeableConcept | None = None
    description: String | None = None


class Condition(Resource):
    resourceType: Literal["Condition"]
    code: CodeableConcept | None = None


class Practitioner(Resource):
    resourceType: Literal["Practitioner"]
    identifier: list[FhirIdentifier] = Field(default_factory=list)
    name: list[HumanName] = Field(default_factory=list)
    telecom: list[ContactPoint] = Field(default_factory=list)


class PractitionerRole(Resource):
    resourceType: Literal["PractitionerRole"]
    practitioner: Reference | None = None
    organization: Reference | None = None
    telecom: list[ContactPoint] = Field(default_factory=list)


class Organization(Resource):
    resourceType: Literal["Organization"]
    identifier: list[FhirIdentifier] = Field(default_factory=list)
    name: String | None = None
    telecom: list[ContactPoint] = Field(default_factory=list)


class RelatedPerson(Resource):
    resourceType: Literal["RelatedPerson"]
    relationship: list[CodeableConcept] = Field(default_factory=list)
    name: list[HumanName] = Field(default_factory=list)
    telecom: list[ContactPoint] = Field(default_factory=list)


class Provision(Fhir):
    type: Literal["deny", "permit"] | None = None


class FhirConsent(Resource):
    resourceType: Literal["Consent"]
    status: Literal["draft", "proposed", "active", "rejected", "inactive", "entered-in-error"]
    category: list[CodeableConcept]
    dateTime: DateTime | None = None
    performer: list[Reference] = Field(default_factory=list)
    policyRule: CodeableConcept | None = None
    provision: Provision | None = None


class Flag(Resource):
    resourceType: Literal["Flag"]
    status: Literal["active", "inactive", "entered-in-error"]
    category: list[CodeableConcept] = Field(default_factory=list)
    code: CodeableConcept


class FhirAttachment(Fhir):
    contentType: Code | None = None
    data: String | None = None
    url: Uri | None = None
    title: String | None = None


class DocumentContent(Fhir):
    attachment: FhirAttachment


class DocumentReference(Resource):
    resourceType: Literal["DocumentReference"]
    status: Literal["current", "superseded", "entered-in-error"]
    description: String | None = None
    content: list[DocumentContent]


class Binary(Resource):
    resourceType: Literal["Binary"]
    contentType: Code
    data: String | None = None


class Meta(Fhir):
    versionId: Id | None = None
    lastUpdated: Instant | None = None


class Entry(Fhir):
    fullUrl: Uri | None = None


class Bundle(Fhir):
    """The envelope. The entries' resources are validated one by one, by their type."""

    resourceType: Literal["Bundle"]
    id: Id
    meta: Meta | None = None
    type: Literal["message"]
    timestamp: Instant | None = None
    entry: Annotated[list[Entry], Field(min_length=1, max_length=limits.BUNDLE_ENTRIES)]


def resource_type(model: type[Resource]) -> str:
    """Return the FHIR resource type that a model reads, such as `Patient`."""
    return str(get_args(model.model_fields["resourceType"].annotation)[0])


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
        RelatedPerson,
        FhirConsent,
        Flag,
        DocumentReference,
        Binary,
    )
}
"""The models of the resource types that we read; other resources in a message are ignored."""
