"""The files in a run's folder.

folder           the folder itself: its lock, its config, whether another config may go on there
hold             the folder's lock, and what to do if the folder is deleted while it trains
heartbeat        the file `running`: where a run trains, and that it still does
state            whether a run is new, running, stopped, complete or dead
summary          what there is to say of a run at a glance
spare            what of a run can be deleted
spare_cache      what of the cache can be deleted, as no run uses it
origin           the file that a run's first weights came from
init_file        another run's networks, from any of its files
which_run        the run that is meant where a path is none
checkpoint       training state to resume from
checkpoint_file  what a checkpoint's file holds, read so that it can do no harm
snapshot         the averaged generator at one moment of a run, which makes images by seed
snapshot_file    snapshots in files
which_snapshot   the snapshot that is meant: RUN@best, RUN@1200, demo
profiles         power-function averages: their profiles, and how to add them up to another one
averages         power averages kept while a run trains, and snapshots of other lengths
critic           the critic that a snapshot's generator was trained with
samples          samples of a snapshot: which are wanted, and how they are made
latents_file     latents in a file, in place of those of seeds
sample_files     samples as files, one each, or all in one zip or npz
sample_archive   many pictures in one zip or npz
sample_grid      samples as one picture, with seeds and names of classes
best_of          the best of several latents for each seed, by the critic
records          stats.jsonl and metrics.jsonl
best             the best snapshot by each metric
charts           curves in TensorBoard: what each shows, and which share a chart
board            files for TensorBoard: curves, pictures, charts, texts, settings
tracking         statistics and pictures to trackers (TensorBoard by default)
"""
