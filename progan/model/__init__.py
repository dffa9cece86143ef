"""The generator and the critic, and images from seeds.

layers    equalized layers, pixel norm, minibatch stddev, resampling, fade
growing   what they share: blocks for each resolution, and which are in use
networks  the generator and the critic
sharing   the generator's methods for the Hugging Face Hub
sampling  seeds to latents to images
grid      picture files: grids of many images, and figures
"""
