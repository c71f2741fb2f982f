"""Intake over MLLP: HL7 v2 frames on TCP."""
