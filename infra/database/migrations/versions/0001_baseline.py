"""The tables of intake, router and notifier, each service's in its own schema.

Primary keys begin with the partner (intake) or the person key (router, notifier): the tables can be distributed by
it.
"""

from alembic import op

from infra.database.migrations import parts

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INTAKE = (
    "create schema intake",
    """
        create table intake.secret_check (
            only_one boolean primary key default true check (only_one),
            value text not null,
            made_at timestamptz not null default clock_timestamp()
        )""",
    # `packet`, `place`: the content (body, answer) in intake.packet, in the shard of the partner. `event_packet`, `event_place`: its event,
    # in the shard of the referral's person key, so that `lightbulb trace` finds when it was published.
    """
        create table intake.message (
            partner text not null,
            id uuid not null,
            received_at timestamptz not null,
            format text not null,
            request_id text,
            correlation_id text,
            media_type text,
            body_sha256 text not null,
            verdict text not null,
            referral_id text,
            reference text,
            version integer,
            sent_at timestamptz,
            issues jsonb not null default '[]',
            response_status integer not null,
            packet bigint not null,
            place integer not null,
            event_packet bigint,
            event_place integer,
            primary key (partner, id)
        )""",
    "create index message_of_reference on intake.message (reference, received_at) where reference is not null",
    "create index message_received on intake.message using brin (received_at)",
    "create index message_of_correlation on intake.message (correlation_id) where correlation_id is not null",
    # `sender_reference`: the sender's own reference of the referral, as people write it, folded; for `lightbulb find`.
    """
        create table intake.referral (
            partner text not null,
            referral_id text not null,
            reference text not null,
            person_key text not null default '',
            version integer not null default 0,
            first_intent text not null default 'new',
            content_hash text not null default '',
            subject text not null default '',
            cancelled boolean not null default false,
            first_sent_at timestamptz,
            sent_at timestamptz,
            message_id uuid,
            first_at timestamptz not null,
            last_at timestamptz not null,
            fields bytea,
            sender_reference text,
            primary key (reference, partner)
        )""",
    "alter table intake.referral alter fields set storage external",
    "create index referral_of_sender_reference on intake.referral (sender_reference) where sender_reference is not null",
    # For `lightbulb find --nhs-number`: the latest of a person, decided or not.
    "create index referral_of_person on intake.referral (person_key, first_at)",
    # Keys of a referral's stay, and of the person's hospital numbers, by which ADT finds the referral: hashes.
    """
        create table intake.visit_key (
            partner text not null,
            key text not null,
            reference text not null,
            primary key (partner, key, reference)
        )""",
    "create index visit_key_of_reference on intake.visit_key (partner, reference)",
    # What an accepted message is the first to have, unique within its partner: its own id, by which its repeats are found, and names of
    # its referral, by which later messages are found to be about it (docs/decisions/0037). `key`: of names of a message without an id, or
    # of a further name of one kind, a text made from message_id. `url_is_shared`: several referrals have url_name; it finds none of them.
    """
        create table intake.message_key (
            partner text not null,
            key text not null,
            content_hash text not null,
            message_id uuid not null,
            reference text not null,
            id_name text,
            identifier_name text,
            message_name text,
            url_name text,
            url_is_shared boolean not null default false,
            primary key (partner, key)
        )""",
    *(
        f"create unique index message_key_of_{name} on intake.message_key (partner, {name}) where {name} is not null"
        for name in ("id_name", "identifier_name", "message_name", "url_name")
    ),
    """
        create table intake.attachment (
            partner text not null,
            reference text not null,
            referral_reference text not null,
            sha256 text not null,
            media_type text,
            content bytea not null,
            received_at timestamptz not null,
            primary key (partner, reference)
        )""",
    "alter table intake.attachment alter content set storage external",
    "create index attachment_of_reference on intake.attachment (reference)",
    # `state`: receiving, refused (the whole file), reporting, reported (every row has its outcome), broken-off (the database or the
    # sender was not reachable before the last row). `counts`: rows by outcome. `issues`: of a refused file.
    """
        create table intake.upload (
            partner text not null,
            id uuid not null,
            council text not null,
            received_at timestamptz not null,
            correlation_id text not null,
            media_type text,
            size bigint,
            sha256 text,
            state text not null check (state in ('receiving', 'refused', 'reporting', 'reported', 'broken-off')),
            counts jsonb not null default '{}',
            issues jsonb not null default '[]',
            ended_at timestamptz,
            primary key (partner, id)
        )""",
    "create index upload_receiving on intake.upload (partner, received_at) where state = 'receiving'",
    "create index upload_reported on intake.upload (partner, council, received_at) where state = 'reported'",
    """
        create table intake.upload_part (
            partner text not null,
            upload uuid not null,
            number integer not null,
            bytes bytea not null,
            primary key (partner, upload, number),
            foreign key (partner, upload) references intake.upload (partner, id) on delete cascade
        )""",
    "alter table intake.upload_part alter bytes set storage external",
    *parts.outbox("intake"),
    *parts.outbox_applied("intake"),
)

ROUTER = (
    "create schema router",
    # `fillfactor`: rows that are updated often; of cases and referrals twice as many updates are then heap-only.
    # The lock of a person key, the number of its last case event, and how many persons it has; of how many a sender verified the number.
    # `undoubted`: persons to whom a newcomer who is another person adds a doubt: the numbers of those who have none yet.
    """
        create table router.person_key (
            person_key text primary key,
            last_sequence bigint not null default 0,
            persons integer not null default 0,
            verified_persons integer not null default 0,
            undoubted integer[] not null default '{}'
        ) with (fillfactor = 90)""",
    # A person is (person_key, person_no). `referrals`, `verified`: how many name the person, and with a verified number.
    # `tracing_reasons`: why the person must be traced; empty if there is no reason. `doubted_since`: since when there is one.
    """
        create table router.person (
            person_key text not null,
            person_no integer not null,
            referrals integer not null,
            verified integer not null,
            provisional boolean not null,
            tracing_reasons text[] not null,
            doubted_since timestamptz,
            check_before_contact boolean not null,
            state bytea storage external not null,
            updated_at timestamptz not null,
            primary key (person_key, person_no)
        )""",
    "create index person_to_trace on router.person (doubted_since, person_key, person_no) where doubted_since is not null",
    # `tally`: what is counted of the referrals of the case. `requested_since`: since when its holder has it and has not accepted it.
    """
        create table router."case" (
            person_key text not null,
            case_id text not null,
            person_no integer not null,
            status text not null,
            business_status text not null,
            home_hub text,
            holder text,
            pathway text not null,
            reasons text[] not null,
            district text,
            directory_version text not null,
            tally bytea storage external not null,
            state bytea storage external not null,
            opened_at timestamptz not null,
            updated_at timestamptz not null,
            requested_since timestamptz,
            ended_at timestamptz,
            primary key (person_key, case_id)
        ) with (fillfactor = 80)""",
    # For `lightbulb find CASE`.
    'create index case_by_id on router."case" (case_id)',
    'create index case_requested on router."case" (holder, requested_since) where requested_since is not null',
    'create index case_open_by_person on router."case" (person_key, person_no) where ended_at is null',
    # `category`: what decisions read of it if it is open. `by_name`, `by_verification`: a hash of what it says who the person is.
    """
        create table router.referral (
            person_key text not null,
            reference text not null,
            case_id text not null,
            person_no integer not null,
            status text not null,
            version integer not null,
            home_hub text,
            correlation_id text not null,
            overdue_on date,
            overdue_held boolean not null default false,
            category text,
            referred_on date,
            admitted_on date,
            by_name text,
            by_verification text,
            state bytea storage external not null,
            received_at timestamptz not null,
            updated_at timestamptz not null,
            primary key (person_key, reference)
        ) with (fillfactor = 80)""",
    # `overdue_on`: day from which the schedule asks about an expected discharge; none: nothing is expected, or it has asked.
    # `overdue_held`: the schedule does not ask, because the person's death is reported, until the report is withdrawn.
    "create index referral_overdue on router.referral (overdue_on) where overdue_on is not null and not overdue_held",
    "create index referral_overdue_held on router.referral (person_key, person_no) where overdue_held",
    # Those of one person, and the first open ones of a case by category: by reference, by date of referral, by admission.
    "create index referral_by_name on router.referral (person_key, by_name, person_no) where by_name is not null",
    """
        create index referral_by_verification on router.referral (person_key, by_verification, person_no)
        where by_verification is not null""",
    """
        create index referral_open on router.referral (person_key, case_id, category, reference)
        where category is not null""",
    """
        create index referral_open_by_date on router.referral (person_key, case_id, category, referred_on, reference)
        where category is not null""",
    """
        create index referral_open_by_admission on router.referral
            (person_key, case_id, category, admitted_on desc, reference)
        where category is not null and admitted_on is not null""",
    # Every applied input: its key detects duplicates; replayed by position it gives the same state. `packet`, `place`: of its content,
    # the headers and the value, in the packet's contents.
    """
        create table router.input (
            person_key text not null,
            topic text not null,
            id text not null,
            position bigint generated always as identity,
            type text not null,
            correlation_id text not null,
            time timestamptz not null,
            directory_version text not null,
            packet bigint not null,
            place integer not null,
            primary key (person_key, topic, id)
        )""",
    # The history of every case. `packet`, `place`: of the message that was published on case.event, which holds personal data.
    """
        create table router.case_event (
            person_key text not null,
            sequence bigint not null,
            id text not null,
            type text not null,
            case_id text not null,
            "references" text[] not null,
            hubs text[] not null,
            decided_by text,
            status text not null,
            business_status text not null,
            home_hub text,
            holder text,
            pathway text not null,
            reasons text[] not null,
            district text,
            directory_version text not null,
            correlation_id text not null,
            causation_id text not null,
            time timestamptz not null,
            packet bigint not null,
            place integer not null,
            primary key (person_key, sequence)
        )""",
    # Postcodes of the county and of its neighbours, in capitals without spaces; loaded by infra/database/postcodes.py.
    "create table router.postcode (postcode text primary key, district text not null)",
    # The directory's files by version: a replay decides with those of the original decision.
    """
        create table router.directory_version (
            version text primary key,
            files jsonb not null,
            first_at timestamptz not null default clock_timestamp()
        )""",
    # Districts that a postcode had until a time: a replay decides with those of the time.
    """
        create table router.postcode_history (
            postcode text not null,
            until timestamptz not null,
            district text,
            primary key (postcode, until)
        )""",
    *parts.outbox("router"),
    *parts.outbox_applied("router"),
    *parts.dead_letters("router"),
    *parts.positions("router"),
)

NOTIFIER = (
    "create schema notifier",
    # Every applied case event: its key detects duplicates.
    """
        create table notifier.input (
            person_key text not null,
            event_id text not null,
            received_at timestamptz not null default clock_timestamp(),
            primary key (person_key, event_id)
        )""",
    # One row for each referral, causing event, recipient and type (feedback_id is derived from the four); composed once.
    # `packet`, `place`: the content of a packet that has the feedback, the bytes that its channel sends, and their ids.
    # `event_packet`: the packet that has its last feedback.event. Times: of what happened, the last time that it did.
    # A mailbox keeps feedback (`kept`) until its recipient fetches it (`collected`); the other channels accept it (`accepted`).
    # No index depends on `state`, and a page keeps room for a second version of each row: what a success changes writes no index.
    """
        create table notifier.feedback (
            person_key text not null,
            feedback_id uuid not null,
            reference text not null,
            caused_by text not null,
            recipient text not null,
            channel text not null check (channel in ('fhir', 'mesh', 'mailbox')),
            feedback_type text not null,
            ordinal integer not null,
            state text not null check (state in ('waiting', 'accepted', 'failed', 'kept', 'collected')),
            packet bigint not null,
            place integer not null,
            event_packet bigint,
            attempts integer not null default 0,
            receipt text,
            reason text,
            composed_at timestamptz not null,
            first_attempt_at timestamptz,
            sent_at timestamptz,
            accepted_at timestamptz,
            failed_at timestamptz,
            resent_at timestamptz,
            collected_at timestamptz,
            primary key (person_key, feedback_id),
            unique (reference, recipient, channel, ordinal, person_key)
        ) with (fillfactor = 50)""",
    "create index feedback_failed on notifier.feedback (composed_at) where failed_at is not null",
    "create index feedback_unfetched on notifier.feedback (composed_at) where channel = 'mailbox' and collected_at is null",
    # One row for each referral, recipient and channel: its next feedback. Only `next` can be claimed, so order holds with any
    # number of processes. `due_at` is null if nothing waits; while claimed it is the end of the lease. `due_since`: when the feedback that
    # is next was due first. `resend`: earlier ones, by ordinal, that an operator sends again before `next`; null: none. `attempts` and
    # `first_attempt_at` are those of `next`.
    """
        create table notifier.conversation (
            person_key text not null,
            reference text not null,
            recipient text not null,
            channel text not null,
            last integer not null,
            next integer not null,
            resend integer[],
            attempts integer not null default 0,
            first_attempt_at timestamptz,
            due_at timestamptz,
            due_since timestamptz,
            lease uuid,
            reason text,
            failed_before boolean not null default false,
            primary key (person_key, reference, recipient, channel)
        ) with (fillfactor = 70)""",
    "create index conversation_due on notifier.conversation (channel, recipient, due_at) where due_at is not null",
    "create index conversation_due_since on notifier.conversation (due_since) where due_since is not null",
    # One row for each endpoint that failed since its last success (services/notifier/circuits.py): the recipient's of a channel, or the
    # one of MESH for all recipients (`*`). `failures`: in a row; `reference`: the referral of all of them, null if they are several.
    # `opened_at`: since then it is attempted once at a time; null: the circuit is closed. Nothing is sent to it before `next_attempt_at`.
    """
        create table notifier.endpoint (
            name text generated always as (channel || ' ' || recipient) stored primary key,
            channel text not null,
            recipient text not null,
            failures integer not null,
            reference text,
            reason text not null,
            failing_since timestamptz not null default clock_timestamp(),
            opened_at timestamptz,
            trials integer not null default 0,
            next_attempt_at timestamptz
        )""",
    # Partners whose channel has no address or settings in this installation, as the last notifier found at its start.
    """
        create table notifier.unaddressed (
            partner text not null,
            channel text not null,
            reason text not null,
            noticed_at timestamptz not null default clock_timestamp(),
            primary key (partner, channel)
        )""",
    # Attempts but those that succeeded at once: of these, notifier.feedback has all.
    """
        create table notifier.attempt (
            person_key text not null,
            feedback_id uuid not null,
            number integer not null,
            started_at timestamptz not null,
            ended_at timestamptz not null,
            outcome text not null check (outcome in ('delivered', 'duplicate', 'retry', 'failed')),
            reason text,
            primary key (person_key, feedback_id, number)
        )""",
    # Feedback that `feedback.event` says was accepted or refused before the database was restored (lightbulb reconcile), until it is
    # composed again: it is then stored with this outcome and not sent.
    """
        create table notifier.known_outcome (
            person_key text not null,
            feedback_id uuid not null,
            outcome text not null check (outcome in ('accepted', 'failed')),
            reason text,
            at timestamptz not null,
            primary key (person_key, feedback_id)
        )""",
    *parts.outbox("notifier"),
    *parts.dead_letters("notifier"),
    *parts.positions("notifier"),
)


# Of two indexes by which a statement reads as many rows, PostgreSQL takes the one that was created last: by person, the primary key.
PRIMARY_KEYS_LAST = """
    do $$ declare made record; begin
        for made in
            select conrelid::regclass as "table", conname, pg_get_constraintdef(pg_constraint.oid) as definition from pg_constraint
            where contype = 'p' and connamespace::regnamespace::text in ('router', 'notifier')
              and (select count(*) from pg_index where indrelid = conrelid) > 1
            order by 1
        loop
            execute format('alter table %1$s drop constraint %2$I, add constraint %2$I %3$s', made.table, made.conname, made.definition);
        end loop;
    end $$"""


# One person key may have many rows of a table, and one partner most of it: no plan may count on them to select few rows, neither while the
# table is empty and has no statistics, nor, for person keys, by the statistics of later. Other columns of the indexes select the rows.
KEYS_SELECT_LITTLE = """
    do $$ declare found record; begin
        for found in
            select table_schema as schema, table_name as name, column_name as key, column_name = 'person_key' as of_person
            from information_schema.columns join information_schema.tables using (table_schema, table_name)
            where table_schema in ('intake', 'router', 'notifier') and table_type = 'BASE TABLE'
              and column_name in ('person_key', 'partner', 'shard', 'target', 'recipient', 'topic')
        loop
            if found.of_person then
                execute format('alter table %I.%I alter column person_key set (n_distinct = -0.01)', found.schema, found.name);
            end if;
            perform pg_restore_attribute_stats('schemaname', found.schema::text, 'relname', found.name::text,
                'attname', found.key::text, 'inherited', false, 'null_frac', 0.0::real, 'avg_width', 32,
                'n_distinct', case when found.of_person then -0.01 else 10.0 end::real);
        end loop;
    end $$"""


STATEMENTS = (*INTAKE, *ROUTER, *NOTIFIER, PRIMARY_KEYS_LAST, KEYS_SELECT_LITTLE)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("drop schema intake, router, notifier cascade")
