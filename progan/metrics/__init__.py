"""How good a generator is: a file a metric, named by its protocol, and what measures them.

metric            what every metric is; a metric of two iterables
swd               sliced Wasserstein distance
msssim            MS-SSIM between pairs
inception         Inception-v3 by torch-fidelity, with the right weights only
features          what the metrics of its features share
fid               Fréchet Inception distance
kid               kernel Inception distance
inception_score   Inception score
precision_recall  improved precision and recall
registry          from a protocol's name to its metric
inputs            the two sides: fakes by number, reals in order
evaluate          metrics of a generator and its data, on all processes
reference_data    the data that a snapshot is compared with
reference_cache   what was found of reals, kept in the cache
while_training    metrics during training
"""
