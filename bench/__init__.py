"""Benchmarks: referrals per second through the whole loop, and where the time is spent (`make bench`)."""
