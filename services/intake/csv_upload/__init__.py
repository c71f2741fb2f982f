"""Intake of councils' CSV files: upload, import row by row, report."""
