"""The process and its machine: errors, files, devices, chance, other processes."""
