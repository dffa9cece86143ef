"""How good a generator is: a file for each metric, and the code that computes them.

metric            what every metric is
measuring         a metric of two iterables of images
swd               sliced Wasserstein distance
msssim            MS-SSIM between pairs
inception         Inception-v3 by torch-fidelity, with the right weights only
features          the base of metrics on Inception features
fid               Fréchet Inception distance
kid               kernel Inception distance
inception_score   Inception score
precision_recall  improved precision and recall
registry          makes the metric that a name stands for
inputs            the two sides: fakes by number, reals in order
pace              how long metrics will take, tried with a few images
evaluate          metrics of a generator and its data, on all processes
of_snapshot       metrics of a snapshot, from the command line and from Python
reference_data    the data that a snapshot is compared with
reference_cache   results about reals, kept in the cache
while_training    metrics during training
"""
