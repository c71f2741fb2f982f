"""The published language of the hub: canonical data model, events, commands and topics. No I/O; imports nothing of ours."""
