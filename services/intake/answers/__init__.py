"""How each protocol answers: pure functions from a decision to status and body. Nothing in an answer is a patient's."""
