"""The files in a run's folder.

folder           the folder itself: its lock, its config, whether another config may go on there
hold             the folder's lock, and what to do if the folder is deleted while it trains
which_run        the run that is meant where a path is none
checkpoint       training state to resume from
checkpoint_file  what a checkpoint's file holds, read so that it can do no harm
snapshot         the averaged generator at one moment of a run, which makes images by seed
snapshot_file    snapshots in files, and which file of a run is meant
samples          samples of a snapshot as files, by seed and class
records          stats.jsonl and metrics.jsonl
best             the best snapshot by each metric
tracking         statistics and pictures to trackers (TensorBoard by default)
"""
