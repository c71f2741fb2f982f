"""What is stored, for whom, and how much of it."""

import base64
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.field.case import Unplayed, Wrong, case
from tests.field.clients import Installation
from tests.field.referrals import Person, bars


@case("security/r1-refused-referral-without-consent-is-not-stored-whole")
def refused_referral_without_consent_is_not_stored_whole(addresses: dict[str, Any]) -> None:
    """Somebody who said no to the referral is not kept with name and NHS number."""
    hub, person = Installation(addresses), Person()
    answer = hub.fhir("gp-castle-view", bars(person, consent=False))
    if answer.status != 422:
        raise Unplayed(f"the referral was answered {answer.status}, not refused for want of consent")
    body = hub.stored_message_with(person.number)
    if body is not None and person.family.encode() in body:
        raise Wrong("the refused message is stored whole, in clear")


@case("security/r3-refused-messages-have-a-storage-budget")
def refused_messages_have_a_storage_budget(addresses: dict[str, Any]) -> None:
    """20 refused messages of 1 MB are not stored whole: one partner's token cannot fill the disk."""
    hub = Installation(addresses)
    before = hub.stored_size()
    for _ in range(20):
        body = json.dumps({"x": base64.b64encode(os.urandom(760_000)).decode()}).encode()
        answer = hub.form("lightbulb-website", "self", body)
        if not 400 <= answer.status < 500:
            raise Unplayed(f"nonsense was answered {answer.status}")
    grown = (hub.stored_size() - before) / 1e6
    if grown > 15:
        raise Wrong(f"20 refused messages made the database {grown:.0f} MB larger")


@case("security/r2-other-accounts-of-the-machine-cannot-read-referrals")
def other_accounts_of_the_machine_cannot_read_referrals(addresses: dict[str, Any]) -> None:
    """Kafka's logs and MESH mailboxes in the data folder are closed to other accounts, also if root runs `lightbulb up`."""
    hub = Installation(addresses)
    hub.refer("gp-brook-street", bars(Person(), "gp-brook-street"))
    hub.settle()
    files = list(_files_with_people(hub.data_folder()))
    if not files:
        raise Unplayed("no files of Kafka or MESH were found in the data folder")
    if readable := [file for file in files if _is_open_to_all(file)]:
        raise Wrong(f"{len(readable)} of {len(files)} files can be read by any account, such as {readable[0].name}")


def _files_with_people(data: Path) -> Iterator[Path]:
    logs: Iterable[Path] = data.glob("kafka/*/storage/*/*.log")
    yield from (log for log in logs if log.stat().st_size)
    yield from data.glob("mesh/mailboxes/*/in/*.json")


def _is_open_to_all(file: Path) -> bool:
    readable = file.stat().st_mode & stat.S_IROTH
    return bool(readable) and all(folder.stat().st_mode & stat.S_IXOTH for folder in file.parents)
