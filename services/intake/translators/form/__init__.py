"""Message Translator for forms: a checklist as JSON, read by a reviewed file of infra/reference_data/forms.

A form is flat: `reference` (its identity), the referrer, the fields that its file declares, a checklist of needs, the
consents. All faults are found at once and named by field. To add a form, add a file.
"""

from services.intake.translators.form.attachments import FORM_PART
from services.intake.translators.form.definition import Form, load
from services.intake.translators.form.schema import DEFINITIONS, json_schema
from services.intake.translators.form.submission import translator

__all__ = ["DEFINITIONS", "FORM_PART", "Form", "json_schema", "load", "translator"]
