"""Whether a machine trains right, and how to mend it if not.

checks   all checks in their order, each tried on all processes
finding  what a check has found, as a line and for a report
system   what is installed; devices, memory, compiler
folders  the cache folder, its disk and locks, the data stream's rate
numbers  gradients against float64, and twice the same
speed    how fast the device is, compared with what it can do
links    all-reduces between processes
"""
