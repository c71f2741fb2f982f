"""Message Translator for HL7 v2 referrals of hospital discharge teams (REF^I12, I13, I14)."""
