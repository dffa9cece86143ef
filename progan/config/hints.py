"""The setting that is meant by its key without the section, or by a word of other tools."""

from progan.config.settings import Settings
from progan.config.value_types import fields_in

KEYS = {  # and their descriptions
    key: model.model_fields[name].description or "" for key, model, name in fields_in(Settings)
}

# Words of other programs for a setting (StyleGAN3, diffusers, Ultralytics, DCGAN's example). With
# an = the value is in other units or words, so it does not carry over.
WORDS = {
    "network.resolution": "res size image_size img_size imgsz crop_size",
    "network.channels": "in_channels out_channels nc",
    "network.z_dim": "latent latent_dim latent_size nz noise_dim",
    "network.channel_base": "cbase fmap_base",
    "network.resolution=": "depth max_depth num_layers levels",
    "network.channels=": "img_channels image_channels grayscale greyscale gray grey",
    "network.channel_max": "cmax fmap_max",
    "network.channel_max=": "ngf ndf nf",
    "network.stddev_group": "mbstd_group",
    "schedule.total_kimg=": "kimg epochs epoch num_epochs num_train_epochs n_epochs steps "
    "max_steps max_train_steps iterations iters niter duration max_iter max_iters total_iters",
    "schedule.fade_kimg": "transition_kimg lod_transition_kimg fade",
    "schedule.stable_kimg": "training_kimg lod_training_kimg",
    "schedule.batch_size": "batch bs b train_batch_size per_device_train_batch_size minibatch",
    "schedule.batch_gpu": "grad_accum microbatch",
    "schedule.batch_gpu=": "gradient_accumulation_steps accumulate",
    "schedule.learning_rate": "lr lr0 glr dlr g_lr d_lr lrate",
    "schedule.learning_rate=": "lr_scheduler scheduler lr_decay lr_policy cos_lr lrf "
    "warmup warmup_steps lr_warmup_steps warmup_epochs",
    "loss.adversarial": "loss loss_type gan_mode",
    "loss.penalty": "penalty_type reg",
    "loss.critic_updates": "n_critic critic_iters d_iters diters d_steps num_d_steps",
    "loss.weights.penalty": "gamma gp gp_weight lambda_gp r1_gamma",
    "optim.beta1": "b1 adam_beta1",
    "optim.beta2": "b2 adam_beta2",
    "optim.beta1=": "betas adam_betas",
    "optim.beta2=": "betas adam_betas",
    "optim.eps": "adam_epsilon adam_eps",
    "ema.half_life_kimg=": "ema ema_decay ema_beta ema_kimg ema_halflife use_ema",
    "ema.rampup": "ema_rampup ema_rampup_ratio rampup_ratio",
    "data.labels": "cond conditional class_cond",
    "data.augment": "aug ada augmentation",
    "data.augment=": "augpipe",
    "data.augment_strength": "aug_p augment_p",
    "data.augment_target": "ada_target",
    "data.augment_kimg": "ada_kimg",
    "data.mirror": "flip hflip random_flip xflip fliplr horizontal_flip",
    "data.workers": "num_workers dataloader_num_workers j nw",
    "data.source": "dataset data_dir dataroot dataset_name train_data_dir",
    "data.max_images": "max_train_samples subset max_samples",
    "data.cache": "cache_dir",
    "run.seed": "random_seed manual_seed manualseed",
    "run.device=": "gpu gpu_id gpu_ids cuda cpu no_cuda",
    "run.precision=": "fp32 fp16 bf16 amp half mixed_precision dtype allow_tf32",
    "run.compile=": "no_compile",
    "run.tick_kimg": "tick",
    "run.tick_kimg=": "log_every log_interval log_freq logging_steps print_freq sample_interval",
    "run.snapshot_ticks=": "snap save_every save_period save_freq save_steps save_interval "
    "checkpointing_steps",
    "run.tracker": "logger log_with report_to wandb tensorboard",
}


def settings_for(word: str) -> list[tuple[str, bool]]:
    """The settings that a word may mean, and whether a value given to it would fit them.

    Either they are called so, such as `run.device` for `device`, `--Device`, `de-vice` and
    `--run.device`; or other programs call them so.
    """
    bare = plain(word)
    named = [(key, True) for key in KEYS if bare in (plain(key), plain(key.rpartition(".")[2]))]
    return named or [
        (key.rstrip("="), not key.endswith("="))
        for key, words in WORDS.items()
        if bare in map(plain, words.split())
    ]


def plain(word: str) -> str:
    return word.lstrip("-").replace("-", "").replace("_", "").lower()


def meant(word: str, value: str) -> str:
    """`; did you mean -o schedule.learning_rate=0.1?` for `lr` and `0.1`, or nothing."""
    found = settings_for(word)
    hints = [f"-o {key}={value if fits else f'… ({KEYS[key]})'}" for key, fits in found]
    return f"; did you mean {' or '.join(hints)}?" if hints else ""
