"""What is broken on purpose, and the evidence that is demanded of it."""
