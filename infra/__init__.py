"""The only place that may import several services: the command line, embedded parts, reviewed directory data."""
