"""progan: a faithful, exact trainer for progressive-growing GANs (Karras et al., ICLR 2018)."""

__version__ = "0.1.0"
