"""The router's schema: persons, cases, referrals, inputs, history, postcodes, outbox and quarantine."""

from alembic import op

from infra.migrations import parts

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("create schema router")
    # The lock of a person key, and the number of its last case event.
    op.execute("""
        create table router.person_key (
            person_key text primary key,
            last_sequence bigint not null default 0
        )""")
    # A person is (person_key, person_no). `tracing`: why somebody must look at who it is; empty where nobody need.
    op.execute("""
        create table router.person (
            person_key text not null,
            person_no integer not null,
            provisional boolean not null,
            tracing text[] not null,
            state jsonb not null,
            updated_at timestamptz not null,
            primary key (person_key, person_no)
        )""")
    op.execute("create index person_to_trace on router.person (updated_at) where tracing <> '{}'")
    op.execute("""
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
            state jsonb not null,
            opened_at timestamptz not null,
            updated_at timestamptz not null,
            ended_at timestamptz,
            primary key (person_key, case_id)
        )""")
    op.execute('create index case_open_by_holder on router."case" (holder) where ended_at is null')
    op.execute("""
        create table router.referral (
            person_key text not null,
            reference text not null,
            case_id text not null,
            person_no integer not null,
            status text not null,
            version integer not null,
            home_hub text,
            correlation_id text not null,
            state jsonb not null,
            received_at timestamptz not null,
            updated_at timestamptz not null,
            primary key (person_key, reference)
        )""")
    op.execute("create index referral_by_reference on router.referral (reference)")
    # Every input applied: its key is the duplicate guard; replayed by position it gives the same state.
    op.execute("""
        create table router.input (
            person_key text not null,
            topic text not null,
            id text not null,
            position bigint generated always as identity,
            type text not null,
            correlation_id text not null,
            time timestamptz not null,
            directory_version text not null,
            headers text not null,
            value bytea not null,
            primary key (person_key, topic, id)
        )""")
    # The history of every case: what was published on case.event. The columns hold no personal data; `data` does.
    op.execute("""
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
            data bytea not null,
            primary key (person_key, sequence)
        )""")
    op.execute("create index case_event_by_case on router.case_event (case_id)")
    # Postcodes of the county and of its neighbours, in capitals without blanks; loaded by infra/postcodes.py.
    op.execute("create table router.postcode (postcode text primary key, district text not null)")
    parts.create_outbox("router")
    parts.create_quarantine("router")


def downgrade() -> None:
    op.execute("drop schema router cascade")
