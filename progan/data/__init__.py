"""From image files anywhere to an endless, resumable stream of reals at any resolution.

An image goes from `sources` through `decode` and `pyramid` (or `live`) to `stream`.

    sources/     where images come from
    pyramid/     prepared data: every image at every resolution
    info/        what `progan data info` says
    formats      which formats of image files are decoded, and their suffixes
    decode       one image of any size and mode to a square
    depth        what is black and white in images of more than 8 bits
    colour       colour profiles, CIELAB and transparency to sRGB
    tiff         what a TIFF's pixels mean
    stated_colour  colours that a file states without a profile
    boxes        the same in JPEG 2000, AVIF and HEIC
    metadata     what else is in image files: which way is up
    workers      processes that read and decode images
    labels       classes or attributes of images
    dataset      what can be trained on: a pyramid, or live images
    live         images made when they are asked for, in place of a pyramid
    opening      from the data section of a config to a data set
    array_file   an array in a file, read piece by piece
    ahead        what the next batches need, made in threads
    epoch_order  in which order images are shown
    stream       an endless, resumable stream of reals
"""
