"""Field cases: inputs that partners' real systems send, played against a running installation, and what a right answer is."""
