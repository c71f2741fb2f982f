"""The practice's reader finds in a letter what the notifier put there, by its words alone."""

import pytest
import yaml

from infra.demo import letter
from services.notifier.channels import itk3
from services.notifier.compose import Feedback, compose
from tests.notifier import builders


def a_message(feedback: Feedback) -> bytes:
    return itk3.as_xml(itk3.bundle(feedback, builders.the_words().sender_details, "LIGHTBULB1"))


def test_a_letter_is_parsed() -> None:
    feedback = compose(builders.a_life(builders.by_gp(), "1")[-1], builders.the_recipients(), builders.the_words())[0]
    read = letter.read(a_message(feedback))
    assert (read.reference, read.feedback_type, read.id) == (
        feedback.reference,
        feedback.feedback_type.value,
        itk3.bundle_id(feedback),
    )
    assert read.done == tuple(done.action or "done" for done in feedback.completed_actions)
    assert read.names_person == (feedback.person is not None)


def test_a_message_without_a_letter_is_unreadable() -> None:
    with pytest.raises(letter.UnreadableLetter):
        letter.read(b'<Bundle xmlns="http://hl7.org/fhir"><id value="1"/></Bundle>')


def test_the_reviewed_first_sentence_of_every_letter_is_parsed() -> None:
    reviewed = yaml.safe_load((builders.FOLDER / "templates" / "feedback.yaml").read_text())["paragraphs"]
    understood = {told: letter.feedback_type_of(sentences[0]) for told, sentences in reviewed.items()}
    assert understood == {told: told for told in reviewed}
