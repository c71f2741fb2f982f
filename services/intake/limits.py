"""The limits of intake: bytes, seconds and counts.

Two more are settings: the largest body or frame (LIGHTBULB_MAX_BODY_BYTES), and the rate of each partner
(LIGHTBULB_MESSAGES_PER_SECOND). docs/limits.md is generated from this file: `python -m infra.docgen`.
"""

# ---- each partner ---------------------------------------------------------------------------------------------------

BURST_SECONDS = 10.0
"""Size of the token bucket, as seconds at the partner's rate: what a partner may send at once after a pause, such as
the queue that an outage left. Beyond: 429 over HTTP; over MLLP the message waits, and nothing is refused."""

IN_FLIGHT = 400
"""Concurrent HTTP requests of one partner in one process, each with its body in memory. Beyond: 429."""

RATE_LIMIT_RETRY_SECONDS = 1
"""Retry-After of 429: after this time at least one more message is allowed."""

# ---- each message ---------------------------------------------------------------------------------------------------

ISSUES = 50
"""Faults, or warnings, of one message that its response lists. Beyond: not listed."""

# ---- HTTP -----------------------------------------------------------------------------------------------------------

BODY_SECONDS = 20.0
"""Time to send a body. Beyond: 408."""

HTTP_ANSWER_SECONDS = 5.0
"""Time to respond (BaRS: within 5 seconds). After that the outcome is unknown and the sender may repeat the message. Beyond: 408."""

RETRY_SECONDS = 5
"""Retry-After of 408 and 503."""

HTTP_CONNECTIONS = 1_000
"""Connections of one process, and never more than half of the files that it may open. At the limit, the connection that has been
idle longest is closed for the next. Beyond: 503, if every connection has a request in progress."""

HTTP_REJECTED_CONNECTIONS = 100
"""Further connections that are answered 503. Beyond: the connection is closed without a response."""

HEAD_SECONDS = 10.0
"""Time to send the head of a request, and time for data that follows a response. Beyond: 408, or the connection is closed."""

HEAD_BYTES = 32_768
"""Size of a request's head. Beyond: 431."""

HEAD_FIELDS = 100
"""Header fields of a request. Beyond: 431."""

URL_BYTES = 8_192
"""Size of a request's path and query. Beyond: 414."""

PIPELINED = 8
"""Pipelined requests that wait on one connection. Beyond: the first is answered, and the connection closed."""

MULTIPART_PARTS = 20
"""Parts of a multipart/form-data body. Beyond: 400."""

PART_HEADERS = 10
"""Header fields of a part. Beyond: 400."""

PART_HEADER_BYTES = 2_048
"""Size of a header field of a part. Beyond: 400."""

PART_NAME_CHARACTERS = 255
"""Characters of the name of a part, and of its file name. Beyond: 400."""

BODIES_BYTES = 256 * 1024 * 1024
"""Uncommitted bodies in the memory of one process, of all senders together. Beyond: 503."""

# ---- MLLP -----------------------------------------------------------------------------------------------------------

FRAME_SECONDS = 30.0
"""Time to send a frame, from its first byte to its last. Beyond: the connection is closed."""

RETURN_SECONDS = 0.5
"""Time to wait for the carriage return that ends a frame. Some senders leave it out and wait for the acknowledgement."""

IDLE_SECONDS = 600.0
"""Time that a connection may be idle, unless the partner's entry has `idle_seconds`. Integration engines keep a connection open, and
open it again if it was closed.
Beyond: the connection is closed."""

MLLP_ANSWER_SECONDS = 10.0
"""Time to wait for the commit of a message: longer than a transaction may take, so that the outcome is usually known.
Beyond: no acknowledgement, and the connection is closed."""

WRITE_SECONDS = 10.0
"""Time for a sender to read its acknowledgement. Beyond: the connection is closed."""

HANDSHAKE_SECONDS = 10.0
"""Time for a TLS handshake. Beyond: the connection is closed."""

CLOSE_SECONDS = 1.0
"""Time that a close waits for the peer's TLS shutdown."""

STOP_SECONDS = 10.0
"""Time that a stop waits until the messages in progress are answered."""

CONNECTIONS = 50
"""Concurrent connections of one listener; feeds of ADT only are counted apart. At the limit, the connection that has been idle
longest is closed for the next.
Beyond: the new connection is closed, if a message is in progress on every other."""

HANDSHAKES = 50
"""Concurrent TLS handshakes. At the limit, the oldest is aborted for the next. Beyond: the connection is closed."""

BACKLOG = 100
"""Connections that the kernel queues until they are accepted."""

ACCEPT_SECONDS = 0.2
"""Pause before the next accept if the process has no file descriptor left."""

BYTES_OUTSIDE = 1_024
"""Bytes between messages that are ignored, frames without a message included; a sender of more does not use MLLP.
Beyond: the connection is closed."""

HEADER_BYTES = 8_192
"""Beginning of a frame that is too large, kept to acknowledge it."""

LOG_SECONDS = 10.0
"""Interval between log lines with the same outcome of the same partner; each line has the count so far."""

# ---- JSON: BaRS messages and forms ----------------------------------------------------------------------------------

JSON_VALUES = 10_000
"""Values of a message, counted by its commas and brackets before it is parsed: validating 10,000 values against FHIR takes up to 0.3 s.
The largest known sample of a BaRS message has 730. Beyond: 400 with the fault `too-long`; it is stored as refused."""

JSON_LIST = 1_000
"""Entries of one list. Beyond: 400 with the fault `too-long`; it is stored as refused."""

JSON_DEPTH = 40
"""Levels of nested lists and objects; BaRS messages have up to 13.
Beyond: 400 with the fault `too-long`; it is stored as refused."""

BUNDLE_ENTRIES = 500
"""Entries of a BaRS message. Beyond: 400 with the fault `too-long`; it is stored as refused."""

# ---- forms ----------------------------------------------------------------------------------------------------------

FORM_DOCUMENTS = 10
"""Documents that come with one form, within its largest body. Beyond: 400 with the fault `too-long`; it is stored as refused."""

# ---- HL7 v2 ---------------------------------------------------------------------------------------------------------

HL7_SEGMENTS = 1_000
"""Segments of a message. Beyond: AE (CE), over HTTP with 400; it is stored as refused."""

HL7_PARTS = 20_000
"""Repetitions, components and subcomponents in the fields that are read, and lines: about 60 ms of work.
Beyond: AE (CE), over HTTP with 400; it is stored as refused."""

HL7_HEADER_BYTES = 8_191
"""Size of MSH. Beyond: AE (CE), over HTTP with 400; it is stored as refused."""

HL7_ID_CHARACTERS = 200
"""Characters of an id: MSH-10, RF1-6. Beyond: AE (CE), over HTTP with 400; it is stored as refused."""

HL7_VISIT_IDS = 10
"""Visit numbers, and hospital numbers, of one message by which its stay is found. Beyond: further ones are not used for that."""

VISIT_REFERRALS = 50
"""Referrals of one stay, or of one hospital number, that an ADT message may concern. Beyond: AA (CA), counted as `ambiguous`: nothing
is changed, because such a number identifies no stay."""

# ---- the shared commit ----------------------------------------------------------------------------------------------

BATCH_MESSAGES = 200
"""Messages in one transaction."""

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of the messages in one transaction together, unless one alone is larger."""

WAITING = 2_000
"""Messages that wait for a commit. Beyond: 503; over MLLP no acknowledgement, and the connection is closed."""

COMMIT_SECONDS = 8.0
"""Time for a transaction, after which its outcome counts as unknown.
Beyond: 503, or 408; over MLLP no acknowledgement, and the connection is closed."""

COMMIT_ATTEMPTS = 10
"""Attempts of a transaction that was certainly rolled back and may succeed the next time: each lost race is one of another process."""

# ---- councils' files ------------------------------------------------------------------------------------------------

FILE_BYTES = 128 * 1024 * 1024
"""Size of a council's file. Beyond: 413."""

FILES_AT_ONCE = 32
"""Files that one process receives concurrently, each with a few megabytes in memory for its references and lines. Beyond: 503."""

FILE_ROWS = 500_000
"""Rows of one file. Beyond: 413; the file is stored as refused."""

HEADER_ROWS = 10
"""Rows of a file among which its header is looked for; together at most ROW_BYTES, because each row's message contains them.
Beyond: 400 or 413; the file is stored as refused."""

ROW_BYTES = 65_536
"""Size of one row, with the line breaks in its cells. Beyond: the row is refused, and stored up to this size; the others are accepted. If
its end cannot be found without doubt, because of a stray quote mark: 413; the file is stored as refused."""

UNCERTAIN_ROWS = 1_000
"""Rows of a file that are refused because a line break in a cell may have cut them. Beyond: 400; the file is stored as refused."""

WORKBOOK_BYTES = 8 * 1024 * 1024
"""Size of an .xlsx workbook, which is in memory while it is received. Beyond: 413; the file is stored as refused."""

WORKBOOKS_AT_ONCE = 4
"""Workbooks that one process has open, each with up to about 80 MiB: its bytes, and the strings that its sheets share. Beyond: 503."""

WORKBOOK_STRINGS_BYTES = 16 * 1024 * 1024
"""Inflated size of the strings that sheets share, counted while they are inflated. Beyond: 413; the file is stored as refused."""

WORKBOOK_PART_BYTES = 4 * 1024 * 1024
"""Inflated size of each other part of a workbook, but its sheets. Beyond: 413; the file is stored as refused."""

WORKBOOK_SHEET_BYTES = 128 * 1024 * 1024
"""Inflated size of a sheet, which is parsed in steps and never in memory as a whole. Beyond: 413; the file is stored as refused."""

WORKBOOK_RATIO = 200
"""Inflated size of a part of a workbook, as a multiple of its size in the archive, if it inflates to more than WORKBOOK_STRINGS_BYTES:
tables have 5 to 30. It keeps a file of a few kilobytes from taking minutes of work. Beyond: 413; the file is stored as refused."""

WORKBOOK_SEARCH_BYTES = 1024 * 1024
"""Inflated beginning of each visible sheet in which the header is looked for. Beyond: 400; the file is stored as refused."""

WORKBOOK_ENTRIES = 1_000
"""Entries of a workbook's archive, counted before it is opened. Beyond: 413; the file is stored as refused."""

WORKBOOK_SHEETS = 50
"""Visible sheets of a workbook. Beyond: 413; the file is stored as refused."""

WORKBOOK_FORMAT_CHARACTERS = 255
"""Characters of a number format that are read, as many as Excel allows."""

WORKBOOK_DEPTH = 100
"""Levels of nested elements in a part of a workbook. Beyond: 413; the file is stored as refused."""

REFERENCE_CHARACTERS = 100
"""Characters of a row's reference. Beyond: the row is refused, and stored; the others are accepted."""

NAME_CHARACTERS = 500
"""Characters of a name in a row. Beyond: the row is refused before the name is searched, which would take long."""

GIVEN_NAMES = 10
"""Given names in one cell of a row. Beyond: the row is refused."""

NOTE_CHARACTERS = 10_000
"""Characters of a free text in a row, as in the referral. Beyond: the row is refused."""

NOTED_ROWS = 20
"""Rows of a council's last file from which a file with less than half of them gets a note in its report."""

PART_BYTES = 256 * 1024
"""Size of the parts in which a file is stored and read back; one part at a time is in memory."""

PART_SECONDS = 20.0
"""Time without any data while a file is received. Beyond: 408."""

FILE_SECONDS = 900.0
"""Time to send a file, from its first byte to its last. Beyond: 408."""

WINDOW_ROWS = BATCH_MESSAGES
"""Rows of a file that are submitted for commit together: other senders' messages are committed between two windows."""

WINDOWS_AT_ONCE = 4
"""Files whose rows are submitted concurrently; four windows use 800 of the 2,000 places in the queue, the rest is for other senders."""

ROW_PAUSES = (0.5, 2.0)
"""Pauses before rows that could not be committed are submitted again. After the last, the rest of the file is not processed."""

REPORT_SECONDS = 60.0
"""Time for a sender to read the next part of a report. Beyond: the connection is closed before the report's end."""

ABANDONED_SECONDS = 3_600.0
"""Age after which a file that is still in state `receiving` is deleted: its process was killed."""
