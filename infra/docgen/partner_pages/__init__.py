"""Pages for partners' developers: what is read of their messages, from which field, into which field of the referral."""
