"""Message Translator for forms: a checklist as JSON, read by a reviewed file of infra/reference_data/forms.

A form is flat: `reference` (its identity), who asked, the fields that its file declares, a checklist of needs, the consents. Every
fault is found at once, and named by its field. Adding a form is adding a file.
"""

from services.intake.translators.form.definition import Form, load
from services.intake.translators.form.schema import json_schema
from services.intake.translators.form.submission import translator

__all__ = ["Form", "json_schema", "load", "translator"]
