"""From batches and losses to a trained run: the step, the loop, what they cost."""
