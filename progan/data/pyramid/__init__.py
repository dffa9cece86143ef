"""Prepared data: every image at every resolution, made once.

format       the format on disk, an array a resolution
meta         meta.json, checked before it is believed
records      PNG images in a file
digests      by which the images of a level are recognized
repeats      images that are there more than once, or blank
prepare      from a source to a pyramid
plan         what a pyramid will take on disk, level by level
layout       where images go while it is made
writer       a pyramid written in pieces, so that an interrupted one goes on
old_reading  images that an earlier progan has read into other pixels
bad_images   images that are left out: counted, named, explained if they are many
"""
