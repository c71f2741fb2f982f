"""The operations behind the operator's commands."""
