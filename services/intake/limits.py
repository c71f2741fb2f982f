"""Every limit of intake in one place: bytes, seconds and numbers. Two more are settings: the largest body or frame
(LIGHTBULB_MAX_BODY_BYTES), and how fast each partner may send (LIGHTBULB_MESSAGES_PER_SECOND).

docs/limits.md is generated from this file: `python -m infra.docgen`.
"""

# ---- each partner ---------------------------------------------------------------------------------------------------

BURST_SECONDS = 10.0
"""What a partner that was quiet may send at once: as much as it may send in so many seconds. A queue that an outage left
goes through as fast as it may. Beyond: 429 over HTTP; over MLLP the next frame is read later, and nothing is refused."""

IN_FLIGHT = 400
"""Requests of one partner that one process has in hand over HTTP, each with its body in memory. Beyond: 429."""

RATE_LIMIT_RETRY_SECONDS = 1
"""When who sends too fast may come again: by then there is room for one message at least."""

# ---- HTTP -----------------------------------------------------------------------------------------------------------

BODY_SECONDS = 20.0
"""How long a sender may take to send a body. Beyond: 408."""

HTTP_ANSWER_SECONDS = 5.0
"""BaRS: every answer within 5 seconds. After that the outcome is unknown to the sender, who may send again. Beyond: 408."""

RETRY_SECONDS = 5
"""When to come again, where nothing can be promised now."""

HTTP_CONNECTIONS = 1_000
"""Connections of one process, and never more than half of the files that it may open. Where all are taken, the one that has waited
longest without a request is closed for the next. Beyond: 503, where all have a request in hand."""

HTTP_REJECTED_CONNECTIONS = 100
"""Connections above those that are told 503. Beyond: the connection is cut."""

HEAD_SECONDS = 10.0
"""How long a request's head may take, and what is sent behind an answer. Beyond: 408, or the connection is closed."""

HEAD_BYTES = 32_768
"""Bytes of a request's head. Beyond: 431."""

HEAD_FIELDS = 100
"""Header fields of a request. Beyond: 431."""

URL_BYTES = 8_192
"""Bytes of a request's path and query. Beyond: 414."""

PIPELINED = 8
"""Requests that may wait on one connection for the answer before theirs. Beyond: the first is answered, and the connection closed."""

BODIES_BYTES = 256 * 1024 * 1024
"""Bodies that one process has in memory before they are committed, all senders together. Beyond: 503."""

# ---- MLLP -----------------------------------------------------------------------------------------------------------

FRAME_SECONDS = 30.0
"""How long a frame may take from its first byte to its last. Beyond: the connection is closed."""

RETURN_SECONDS = 0.5
"""How long the carriage return behind a frame's end is waited for. Some senders leave it out, and wait for their answer."""

IDLE_SECONDS = 600.0
"""How long a connection may be without a frame. Engines keep theirs open, and open it anew where it was closed.
Beyond: the connection is closed."""

MLLP_ANSWER_SECONDS = 10.0
"""How long a message waits for its commit: longer than a transaction may take, so that the outcome is known as often as it can be.
Beyond: no acknowledgement, and the connection is closed."""

WRITE_SECONDS = 10.0
"""How long a sender may take to take its answer. Beyond: the connection is closed."""

HANDSHAKE_SECONDS = 10.0
"""How long a TLS handshake may take. Beyond: the connection is closed."""

CLOSE_SECONDS = 1.0
"""How long a close waits for the other side's part in it (TLS)."""

STOP_SECONDS = 10.0
"""How long a stop waits for the messages in hand to be answered."""

CONNECTIONS = 50
"""Connections of one listener at once. The one that has waited longest is closed for the next.
Beyond: the next is closed, where all are being answered."""

HANDSHAKES = 50
"""TLS handshakes at once. The one that has taken longest is cut off for the next. Beyond: the connection is closed."""

BACKLOG = 100
"""Connections that the kernel holds until they are accepted."""

ACCEPT_SECONDS = 0.2
"""How long nothing is accepted where the process has no file left for it."""

BYTES_OUTSIDE = 1_024
"""Bytes between frames that are passed over; a sender of more does not speak MLLP. Beyond: the connection is closed."""

HEADER_BYTES = 8_192
"""What is kept of a frame that is too large, to answer it."""

LOG_SECONDS = 10.0
"""How often the log says the same of a partner; what happened between is counted."""

# ---- JSON: BaRS messages and forms ----------------------------------------------------------------------------------

JSON_VALUES = 10_000
"""Values of a message, counted by its commas and brackets before it is read: checking so many against FHIR takes up to 0.3 s. The
largest sample of a BaRS message that we know has 730. Beyond: 400 with the fault `too-long`; it is kept as refused."""

JSON_LIST = 1_000
"""Entries of one list, at most. Beyond: 400 with the fault `too-long`; it is kept as refused."""

JSON_DEPTH = 40
"""Lists and objects inside one another, at most; BaRS messages have up to 13.
Beyond: 400 with the fault `too-long`; it is kept as refused."""

BUNDLE_ENTRIES = 500
"""Entries of a BaRS message. Beyond: 400 with the fault `too-long`; it is kept as refused."""

# ---- HL7 v2 ---------------------------------------------------------------------------------------------------------

HL7_SEGMENTS = 1_000
"""Segments of a message, at most. Beyond: AE (CE), over HTTP with 400; it is kept as refused."""

HL7_PARTS = 20_000
"""Repetitions, components and subcomponents in the fields that are read, at most: about 60 ms of work.
Beyond: AE (CE), over HTTP with 400; it is kept as refused."""

HL7_HEADER_BYTES = 8_191
"""Bytes of MSH. Beyond: AE (CE), over HTTP with 400; it is kept as refused."""

HL7_ID_CHARACTERS = 200
"""Characters of an id: MSH-10, RF1-6. Beyond: AE (CE), over HTTP with 400; it is kept as refused."""

# ---- the shared commit ----------------------------------------------------------------------------------------------

BATCH_MESSAGES = 200
"""Messages that share a transaction at most."""

BATCH_BYTES = 16 * 1024 * 1024
"""And their bytes together, at most, unless one alone is larger."""

WAITING = 2_000
"""Messages that may wait. Beyond: 503; over MLLP no acknowledgement, and the connection is closed."""

COMMIT_SECONDS = 8.0
"""How long a transaction may take before its outcome counts as unknown.
Beyond: 503, or 408; over MLLP no acknowledgement, and the connection is closed."""

COMMIT_ATTEMPTS = 3
"""How often a transaction is tried that certainly did not happen, and may go well the next time."""

# ---- councils' files ------------------------------------------------------------------------------------------------

FILE_BYTES = 128 * 1024 * 1024
"""The largest file of a council. Beyond: 413."""

FILES_AT_ONCE = 32
"""Files that one process receives at once. Of each there are a few megabytes in memory, for its references and lines. Beyond: 503."""

FILE_ROWS = 500_000
"""Rows of one file. Beyond: 413; the file is kept as refused."""

ROW_BYTES = 65_536
"""Bytes of one row, with the line breaks in its cells. Beyond: 413; the file is kept as refused."""

REFERENCE_CHARACTERS = 100
"""Characters of a row's reference. Beyond: the row is refused, and kept; the others are taken."""

PART_BYTES = 256 * 1024
"""A file is kept in parts of this size, and read back in them: so large is what is in memory of it."""

PART_SECONDS = 20.0
"""How long a file may stand still while it is received. Beyond: 408."""

FILE_SECONDS = 900.0
"""How long a file may take from its first byte to its last. Beyond: 408."""

WINDOW_ROWS = BATCH_MESSAGES
"""Rows of a file that are handed over together: other senders' messages go between two of these."""

WINDOWS_AT_ONCE = 4
"""Files whose rows are handed over at once; so many windows fit in what may wait, with room for everybody else."""

ROW_PAUSES = (0.5, 2.0)
"""Before what could not be committed is handed over again. After that, the rest of the file is not processed."""

REPORT_SECONDS = 60.0
"""How long a sender may take to take the next piece of a report. Beyond: the report breaks off."""

ABANDONED_SECONDS = 3_600.0
"""After that long, a file that is still being received belongs to a process that was killed."""
