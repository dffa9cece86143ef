"""Other projects' weights in, ours out.

importing          a file of another project, recognized, to a snapshot or the beginning of a run
foreign_files      opens a file, or says what else it is
imported           what every importer gives: settings, weights, labels, and what is different
layout             tables of another project's weights: names, shapes, and what each becomes here
pickles            pickles to plain data, operation by operation
torch_files        files of torch.save, of old and new versions, to plain data and tensors
tensorflow         the official code's pickles
tensorflow_layers  its layers: names, shapes, and their weights in our layout
theano             its older branch: parameters to the later names
gan_zoo            pytorch_GAN_zoo: generators and critics
pro_gan_pth        pro_gan_pytorch: files of version 3, weights of version 2
mmgen              mmgeneration: generators
exporting          a generator to a file that others read
export_formats     the formats, and what each file says of the network in it
plain              a generator as an ordinary network: what is in use, weights scaled and fused
export_graph       ONNX and torch.export
export_torch       a script that stands alone, with its weights
export_tensorflow  the official code's variables
standalone         that script, as it is written: it reads files beside it, so nothing imports it
"""
