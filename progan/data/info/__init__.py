"""What `progan data info` says of a source or of prepared data."""
