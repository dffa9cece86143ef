"""Prepared data: every image at every resolution, made once.

format       the format on disk, an array a resolution
meta         meta.json, checked before it is believed
records      PNG images in a file
digests      by which the images of a level are recognized
repeats      images that are there more than once, or blank
prepare      from a source to a pyramid
plan         what a pyramid will take on disk, level by level
layout       where images go while it is made
pieces       made by worker processes
writer       writes them, so that an interrupted preparation goes on
bad_images   images that are left out: counted, named, explained if they are many
"""
