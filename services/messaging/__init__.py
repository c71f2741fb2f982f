"""Messaging patterns between the services, one file each, named after the pattern."""
