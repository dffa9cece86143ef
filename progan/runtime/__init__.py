"""The process and its machine. Nothing here knows of networks, data or runs.

errors       users' mistakes as exceptions, and words for their messages
extras       how to install what is optional
secrets      texts without the passwords and signatures of URLs
text         numbers, names and tables as people read them
paths        paths as users give them: ~, and none that is empty
disk         files that are whole or absent; files of JSON lines; no writing through links
lock         a lock by a file, which one process at a time holds
pickles      pickles to plain data, operation by operation, so that they run no code
zips         zips of a few parts
pictures     one picture of many images, in rows with names
provenance   marks in image files: that a trained generator made them, and which one
cache        the folder of prepared data, and a lock on it
hub          files from the Hugging Face Hub, and to it
progress     progress of long work: a bar on terminals, else a line now and then
launch       processes and ranks, as the launcher set them
stopping     requests to stop: signals, a time limit, a file
output       printing that controls no terminal, and whose failure ends no run
randomness   counted randomness: (seed, stream, position) to a generator
accelerator  joining the other processes, and errors when one is lost
distributed  averages, sums and checks over all processes
watch        ends this process when another is lost, before torch does
device       the device that computes, and copies to it
energy       the energy that GPUs take
memory       peak and free memory; errors when memory is short
machine      the machine's name, memory, peak and versions, for records
numerics     bfloat16, TF32 and deterministic algorithms
speeds       the measured speed of a CPU in each precision, which decides `auto`
"""
