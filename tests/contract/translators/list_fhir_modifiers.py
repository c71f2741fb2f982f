"""List the modifier elements of FHIR R4, from HL7's definitions: writes fhir_modifiers.txt, which the tests read.

The definitions are in `ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:7.6.1` on Maven Central. To regenerate:

    mvn dependency:copy -Dartifact=ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:7.6.1 -DoutputDirectory=/tmp
    python -m tests.contract.translators.list_fhir_modifiers /tmp/hapi-fhir-validation-resources-r4-7.6.1.jar
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

OUTPUT = Path(__file__).with_name("fhir_modifiers.txt")
FOLDER = "org/hl7/fhir/r4/model/profile/"
FILES = ("profiles-resources.xml", "profiles-types.xml")
FHIR = "{http://hl7.org/fhir}"


def main(jar: Path) -> None:
    """Write every element that is a modifier, as TYPE.element, one on a line."""
    with ZipFile(jar) as archive:
        found = {element for name in FILES for element in _modifiers(archive.read(FOLDER + name))}
    source = f"# Elements with isModifier in {' and '.join(FILES)} of FHIR R4 (4.0.1), from {jar.name}.\n"
    OUTPUT.write_text(source + "".join(f"{element}\n" for element in sorted(found)))


def _modifiers(definitions: bytes) -> Iterator[str]:
    # The file is the reviewed jar's own; it declares no entities.
    for definition in ElementTree.fromstring(definitions).iter(f"{FHIR}StructureDefinition"):
        snapshot = definition.find(f"{FHIR}snapshot")
        for element in snapshot if snapshot is not None and _is_type(definition) else ():
            modifier = element.find(f"{FHIR}isModifier")
            if modifier is not None and modifier.get("value") == "true":
                yield element.get("id", "")


def _is_type(definition: ElementTree.Element) -> bool:
    """Return whether this defines a type of its own: profiles of a type repeat the type's elements."""
    derivation = definition.find(f"{FHIR}derivation")
    return derivation is None or derivation.get("value") == "specialization"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
