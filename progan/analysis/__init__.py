"""Questions asked of finished runs: which is better, does it memorize, whom does it show.

curves              metrics of a run against images and hours
compare             runs side by side: a table and a picture
lengths             averages of several lengths by a metric: a table and a picture
neighbours          the training images nearest to samples
neighbours_picture  the same as a picture
balance             shares of labels in samples and in data
classifier          a small network that learns the reals' labels
shares              shares of labels, corrected for the classifier's errors
"""
