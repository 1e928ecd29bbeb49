"""Released clients of the Hugging Face API against a running service, and the wire forms that they send."""
