"""The only place that may import several services: the command line, the embedded parts, the reviewed directory data."""
