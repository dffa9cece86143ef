"""What people do with a trained generator: look at it, move through it, share it.

walks             looping walks through latent space, as videos
timelapse         the same samples through a whole training, as a video
video_file        pictures to .mp4, .gif, .webp or .apng, as they come
animations        the last three of these
projection        the latents whose images are nearest to a given one
distances         how far images are from a target: by pixels, LPIPS or the critic's features
lpips             LPIPS by torchmetrics, with the right weights only
targets           images to find in a generator, read as training reads its own
projection_files  what was found, as files: a picture, the way there, images, latents
latent_space      mixtures of latents, and directions in which images change alike
explorer          the image of a place in latent space, at a moment of a run
explorer_page     the same as a page in the browser
report            a page about a run, and a model card
model_card        the card, of a run or of a snapshot alone, as Hugging Face reads it
hub               a snapshot as a model on the Hugging Face Hub, and back
report_facts      what there is to tell of a run, as rows of tables
report_curves     its curves, as pictures
"""
