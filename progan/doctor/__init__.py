"""Whether a machine trains right, and how to mend it if not."""
