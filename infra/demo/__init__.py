"""The demonstration: simulated hubs and a GP's system as processes of their own, and what watches the whole loop."""
