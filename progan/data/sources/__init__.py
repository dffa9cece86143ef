"""Where images come from: images by index, with names and labels, before anything is done to them.

source         what every source is
find           from a name or a path to its source
named          known data sets, in the files that their authors publish
demo           the embedded cartoon faces, drawn from (seed, index)
files          image files in a folder, a zip or a tar
names          which files are images, by their names
thumbnails     which images are thumbnails of others
zip_names      names in zips, in whatever encoding
readers        bytes of single files of a folder, a zip or a tar
tars           where the files in a tar lie
arrays         images in a NumPy file or in memory
lsun           LSUN's databases
label_tables   labels from a table next to the images
label_match    which line of a table is which image's
label_values   class names, cells and arrays to labels
label_folders  labels from the folders that images lie in
bit_depth      which values are black and white in images of more than 8 bits
shards         WebDataset shards, read at random by byte ranges
shard_list     which shards a pattern names
shard_index    where every image of them lies, and its label
"""
