"""Checks whether a machine trains correctly, and says what to do if not.

checks   all checks in their order, each run on all processes
finding  the result of a check, as a line and for a report
system   what is installed; devices, memory, compiler
folders  the cache folder, its disk and locks, the data stream's rate
numbers  gradients against float64, and their repeatability
speed    how fast the device is, compared with its peak
links    all-reduces between processes
"""
