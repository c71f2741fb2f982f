"""The only package that may import several services: command line, local installation, operations, reviewed data."""
