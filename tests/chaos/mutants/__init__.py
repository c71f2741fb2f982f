"""Remove one guard of a service at a time: the checker must detect each removal."""
