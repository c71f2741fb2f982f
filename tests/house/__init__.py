"""How readable the code base is, measured."""
