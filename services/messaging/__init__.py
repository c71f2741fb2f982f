"""Messaging patterns between the services, one module each."""
