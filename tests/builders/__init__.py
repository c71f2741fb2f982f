"""Builders of test data. Persons are synthetic: their NHS numbers begin with 999."""
