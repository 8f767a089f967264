"""The control protocol: messages, and what they do to a session."""
