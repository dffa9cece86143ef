"""What `progan data info` reports about a source or prepared data.

survey         sizes, kinds, labels and bad images of a source
resolution     the largest resolution that nearly all images have
report         the same as lines of text
contact_sheet  a picture of evenly spaced images
"""
