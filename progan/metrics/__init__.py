"""How good a generator is: one file a metric, named by its protocol."""
