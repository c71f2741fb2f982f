"""Every limit of intake in one place: bytes, seconds and numbers. Two more are settings: the largest body or frame
(LIGHTBULB_MAX_BODY_BYTES), and how fast each partner may send (LIGHTBULB_MESSAGES_PER_SECOND).

docs/limits.md is made from this file: `python -m infra.limits_page`.
"""

# ---- each partner ---------------------------------------------------------------------------------------------------

BURST_SECONDS = 10.0
"""What a partner that was quiet may send at once: as much as it may send in so many seconds. A queue that an outage left
goes through as fast as it may."""

IN_HAND = 400
"""Requests of one partner that one process has in hand over HTTP, each with its body in memory."""

TOO_FAST_SECONDS = 1
"""When who sends too fast may come again: by then there is room for one message at least."""

# ---- HTTP -----------------------------------------------------------------------------------------------------------

BODY_SECONDS = 20.0
"""How long a sender may take to send a body."""

HTTP_ANSWER_SECONDS = 5.0
"""BaRS: every answer within 5 seconds. After that the outcome is unknown to the sender, who may send again."""

RETRY_SECONDS = 5
"""When to come again, where nothing can be promised now."""

HTTP_CONNECTIONS = 1_000
"""Connections of one process, and never more than half of the files that it may open. Where all are taken, the one that has waited
longest without a request is closed for the next; where all have a request in hand, the next is told 503."""

HTTP_TURNED_AWAY = 100
"""Connections above those that are told 503; further ones are cut."""

HEAD_SECONDS = 10.0
"""How long a request's head may take, and what is sent behind an answer: 408, or the connection is closed."""

HEAD_BYTES = 32_768
"""Bytes of a request's head: 431."""

HEAD_FIELDS = 100
"""Header fields of a request: 431."""

URL_BYTES = 8_192
"""Bytes of a request's path and query: 414."""

PIPELINED = 8
"""Requests that may wait on one connection for the answer before theirs; with more, the first is answered and the connection closed."""

BODIES_BYTES = 256 * 1024 * 1024
"""Bodies that one process has in memory before they are committed, all senders together: 503."""

# ---- MLLP -----------------------------------------------------------------------------------------------------------

FRAME_SECONDS = 30.0
"""How long a frame may take from its first byte to its last."""

RETURN_SECONDS = 0.5
"""How long the carriage return behind a frame's end is waited for. Some senders leave it out, and wait for their answer."""

IDLE_SECONDS = 600.0
"""How long a connection may be without a frame. Engines keep theirs open, and open it anew where it was closed."""

MLLP_ANSWER_SECONDS = 10.0
"""How long a message waits for its commit: longer than a transaction may take, so that the outcome is known as often as it can be."""

WRITE_SECONDS = 10.0
"""How long a sender may take to take its answer."""

HANDSHAKE_SECONDS = 10.0
"""How long a TLS handshake may take."""

CLOSE_SECONDS = 1.0
"""How long a close waits for the other side's part in it (TLS)."""

STOP_SECONDS = 10.0
"""How long a stop waits for the messages in hand to be answered."""

CONNECTIONS = 50
"""Connections of one listener at once. The one that has waited longest is closed for the next; where all are being answered, the next."""

HANDSHAKES = 50
"""TLS handshakes at once. The one that has taken longest is cut off for the next."""

BACKLOG = 100
"""Connections that the kernel holds until they are accepted."""

ACCEPT_SECONDS = 0.2
"""How long nothing is accepted where the process has no file left for it."""

BYTES_OUTSIDE = 1_024
"""Bytes between frames that are passed over; a sender of more does not speak MLLP."""

HEADER_BYTES = 8_192
"""What is kept of a frame that is too large, to answer it."""

LOG_SECONDS = 10.0
"""How often the log says the same of a partner; what happened between is counted."""

# ---- JSON: BaRS messages and forms ----------------------------------------------------------------------------------

JSON_VALUES = 10_000
"""Values of a message, counted by its commas and brackets before it is read: checking so many against FHIR takes up to 0.3 s. The
largest sample of a BaRS message that we know has 730."""

JSON_LIST = 1_000
"""Entries of one list, at most."""

JSON_DEPTH = 40
"""Lists and objects inside one another, at most; BaRS messages have up to 13."""

# ---- HL7 v2 ---------------------------------------------------------------------------------------------------------

HL7_SEGMENTS = 1_000
"""Segments of a message, at most."""

HL7_PARTS = 20_000
"""Repetitions, components and subcomponents in the fields that are read, at most: about 60 ms of work."""

# ---- the shared commit ----------------------------------------------------------------------------------------------

BATCH_MESSAGES = 200
"""Messages that share a transaction at most."""

BATCH_BYTES = 16 * 1024 * 1024
"""And their bytes together, at most, unless one alone is larger."""

WAITING = 2_000
"""Messages that may wait; more are told to come again."""

COMMIT_SECONDS = 8.0
"""How long a transaction may take before its outcome counts as unknown."""

COMMIT_ATTEMPTS = 3
"""How often a transaction is tried that certainly did not happen, and may go well the next time."""

# ---- councils' files ------------------------------------------------------------------------------------------------

FILE_BYTES = 128 * 1024 * 1024
"""The largest file of a council."""

FILES_AT_ONCE = 32
"""Files that one process receives at once: 503. Of each there are a few megabytes in memory, for its references and lines."""

FILE_ROWS = 500_000
"""Rows of one file."""

PART_BYTES = 256 * 1024
"""A file is kept in parts of this size, and read back in them: so large is what is in memory of it."""

PART_SECONDS = 20.0
"""How long a file may stand still while it is received."""

FILE_SECONDS = 900.0
"""How long a file may take from its first byte to its last."""

WINDOW_ROWS = BATCH_MESSAGES
"""Rows of a file that are handed over together: other senders' messages go between two of these."""

WINDOWS_AT_ONCE = 4
"""Files whose rows are handed over at once; so many windows fit in what may wait, with room for everybody else."""

ROW_PAUSES = (0.5, 2.0)
"""Before what could not be committed is handed over again. After that, the rest of the file is not processed."""

REPORT_SECONDS = 60.0
"""How long a sender may take to take the next piece of a report."""

ABANDONED_SECONDS = 3_600.0
"""After that long, a file that is still being received belongs to a process that was killed."""
