"""The reviewed data of this repository, and postcodes in five of its districts."""

from schemas.model import OnsCode
from services.reference import directory as directories
from services.reference.directory import Directory
from services.runtime.settings import CHECKOUT

FOLDER = CHECKOUT / "infra" / "reference_data"
DIRECTORY: Directory = directories.load(FOLDER)
BLABY, CHARNWOOD, MELTON, LEICESTER, RUTLAND = (
    OnsCode(code) for code in ("E07000129", "E07000130", "E07000133", "E06000016", "E06000017")
)
POSTCODES = {"LE86AA": BLABY, "LE115AA": CHARNWOOD, "LE131AA": MELTON, "LE11AA": LEICESTER, "LE156AA": RUTLAND}
AT_BLABY, AT_CHARNWOOD, AT_MELTON, IN_THE_CITY = "LE8 6AA", "LE11 5AA", "LE13 1AA", "LE1 1AA"
