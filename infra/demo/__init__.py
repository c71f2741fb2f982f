"""The demonstration: simulated hubs and a GP system as separate processes, and checks of what they receive."""
