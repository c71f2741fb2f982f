"""Run plans of operations and faults on a whole installation, and check its guarantees."""
