"""The history checker: the whole loop under faults, and a checker that shares no code with the services. See docs/reliability.md."""
