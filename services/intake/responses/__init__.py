"""Responses of intake, in each sender's protocol."""
