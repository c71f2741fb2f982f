"""Intake over HTTP: messages in, reads, OpenAPI."""
