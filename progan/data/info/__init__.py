"""What `progan data info` reports about a source or prepared data.

survey         sizes, kinds, labels and bad images of a source
resolution     the largest resolution that nearly all images have
copies         images that are there more than once, or blank
advice         commands that fit the images and this machine
damage         whether prepared images are still those that were prepared
look           what a run would find in it, before it is prepared
report         the same as lines of text
known          known data sets, and whether they are there
contact_sheet  a picture of evenly spaced images
"""
