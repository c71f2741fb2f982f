"""Who vouches for the identity comes from the partner's entry, in every format, and is not part of the content."""

from dataclasses import replace

import pytest

from services.intake.translators.translator import Translated
from tests.contract.translators.adapters import ADAPTERS, Adapter

each = pytest.mark.parametrize("adapter", ADAPTERS, ids=str)


def translated(adapter: Adapter, **entry: str) -> Translated:
    inbound = adapter.delivery(adapter.good())
    outcome = adapter.translate(replace(inbound, partner=inbound.partner.model_copy(update=entry)))
    assert isinstance(outcome, Translated)
    return outcome


@each
@pytest.mark.parametrize("vouches", ["sender", "nobody"])
def test_the_referral_states_who_vouches_by_the_partners_entry(adapter: Adapter, vouches: str) -> None:
    referral = translated(adapter, vouches=vouches).referral
    assert referral is not None
    assert referral.person.vouched_by == vouches


@each
def test_another_entry_of_the_partner_does_not_make_a_repeat_another_content(adapter: Adapter) -> None:
    assert translated(adapter, vouches="nobody").content_hash == translated(adapter, vouches="sender").content_hash
