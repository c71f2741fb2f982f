"""How many referrals a second go the whole loop, and where the time goes. `make bench`."""
