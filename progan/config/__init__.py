"""What a run is to do: settings, and the schedule that they describe.

config        every setting: typed, strict, documented
value_types   the types of settings' values: numbers with limits, maps by resolution
load          presets, YAML files and -o to a config, with mistakes explained
yaml_io       YAML in, YAML out, safely
resolutions   powers of two from 4 to 1024, and values that depend on them
schedule      from images shown to phase, alpha, batch size and learning rates
metric_names  metrics by their protocols' names: swd16k, fid50k, …
"""
