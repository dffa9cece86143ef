"""The files in a run's folder.

folder      the folder itself: its lock, its config, whether another config may go on there
checkpoint  training state to resume from
snapshot    the averaged generator, to sample from
samples     samples of a snapshot as files, by seed and class
records     stats.jsonl and metrics.jsonl
best        the best snapshot by each metric
tracking    statistics and pictures to trackers (TensorBoard by default)
"""
