"""What intake answers, in each sender's protocol."""
