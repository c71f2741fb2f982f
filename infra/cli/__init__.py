"""The `lightbulb` command: the only place that prints."""
