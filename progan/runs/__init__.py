"""What lies in a run's folder: config, checkpoints, snapshots, records, curves."""
