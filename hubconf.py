"""For torch.hub: `torch.hub.load("path/of/a/clone", "generator", "user/model", source="local")`."""

from typing import Any

dependencies = ["accelerate", "huggingface_hub", "pydantic", "safetensors", "torch", "yaml"]


def generator(name: str = "demo") -> Any:
    """A generator: latents [N, z_dim], and labels [N, c_dim] if any, to images in [-1, 1].

    Args:
        name: "user/model" on the Hugging Face Hub; a folder, run or snapshot on this machine; or
            "demo", which comes with progan.
    """
    from progan import Generator

    return Generator.from_pretrained(name)
