"""How many rows, bytes, statements and record batches one referral costs: counts that no machine's speed changes."""
