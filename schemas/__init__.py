"""Published models of the hub: canonical data model, events, commands and topics. No I/O.

This package imports no other package of the project.
"""
