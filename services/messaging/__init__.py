"""One file for each messaging pattern, named after it. Knows no service."""
