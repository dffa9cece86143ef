"""Describes a run: its settings, and the schedule that follows from them.

value_types        types of settings' values: numbers with limits, maps by resolution
conventions        what networks of other projects compute otherwise than the paper's
curves             ramps and cycles: values that change over a phase or the run
optimizers         the optimizers that a phase may have, and the options of each
settings           every setting: typed, strict, documented
schedule_settings  those that a schedule follows from
ema                the settings of the averaged generator
config             all settings of a run as one constant
load               presets, YAML files and -o to a config
mistakes           what is wrong with settings, in words
hints              the setting that is meant by a key without its section, or another tool's word
reference          the explanations of all settings, as YAML to edit and as docs/settings.md
yaml_io            reading and writing YAML, safely
resolutions        powers of two from 4 to 1024, and values that depend on them
phase_list         the list of phases that settings describe
phase_rules        checks that phases follow each other, and that options fit them
batch_rules        checks that batches divide into processes, passes and groups
phase_text         phases in words, and the rows of a table of them
schedule           from images shown to phase, alpha, batch size and learning rates
shortfall          why a schedule ends before its last resolution has faded in
metric_names       metrics by their protocols' names: swd16k, fid50k, …
"""
