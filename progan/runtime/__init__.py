"""The process and its machine. Nothing here knows of networks, data or runs.

errors       mistakes of the user's, as messages
text         how numbers and names are written for people
disk         files that are whole or not there; files of JSON lines
cache        where prepared data is kept, and one process at a time there
progress     progress of long work: a bar, or a line now and then
launch       what torchrun told this process
stopping     signals, a time limit or a file as a request to stop
randomness   counted randomness: (seed, stream, position) to a generator
accelerator  meeting the other processes, and what is said where one does not come
distributed  averages, sums and checks over all processes
watch        a watch over processes that wait for each other for too long
device       the device that computes, and copies to it
memory       peak and free memory, and what happens where it is short
machine      what this machine is: devices, peaks, versions
numerics     bfloat16, TF32 and deterministic algorithms
speeds       how fast a CPU is in each precision, and which one `auto` takes
"""
