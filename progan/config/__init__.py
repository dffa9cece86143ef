"""Describes a run: its settings, and the schedule that follows from them.

value_types   types of settings' values: numbers with limits, maps by resolution, ramps
settings      every setting: typed, strict, documented
config        all settings of a run as one constant
load          presets, YAML files and -o to a config, with mistakes explained
hints         the setting that is meant by a key without its section, or another tool's word
reference     the explanations of all settings, as YAML to edit and as docs/settings.md
yaml_io       reading and writing YAML, safely
resolutions   powers of two from 4 to 1024, and values that depend on them
schedule      from images shown to phase, alpha, batch size and learning rates
metric_names  metrics by their protocols' names: swd16k, fid50k, …
"""
