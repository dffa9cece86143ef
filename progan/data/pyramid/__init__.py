"""Prepared data: every image at every resolution, made once.

format      the format on disk, an array a resolution
prepare     from a source to a pyramid
plan        what a pyramid will take on disk, level by level
writer      a pyramid written in pieces, so that an interrupted one goes on
bad_images  images that are left out: counted, named, explained if they are many
"""
