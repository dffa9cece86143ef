"""A generator comes from the Hugging Face Hub and goes there by methods of its own.

People look for them on the class, but what they do lies in outputs/hub.py, above this folder. This
is the only file that calls upward, and only when a method is called. A subclass up there would be
another class than that of the generators that `progan.load` gives.
"""

from pathlib import Path
from typing import Self

from progan.model.growing import GrowingNetwork


class SharedNetwork(GrowingNetwork):
    """A network that can come from the Hub, and go there.

    Args:
        file: the snapshot that it was read from; None if it was made anew.
        reached: resolution and alpha of that snapshot, at which it makes images by itself.
    """

    file: Path | None = None
    reached: tuple[int, float | None] | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Self:
        """The generator of a model on the Hub, or of a folder, a run or a snapshot on this machine.

        Args:
            name: "user/model" or "user/model@revision", if there is no such folder here; or all
                that `progan.load` takes.

        Raises:
            UserError: there is none, it cannot be reached, or it is damaged.
        """
        from progan.outputs.hub import read_generator

        return read_generator(cls, name)

    def push_to_hub(self, model: str, private: bool = False) -> str:
        """Put what `from_pretrained` has read onto the Hub, as `progan push` does.

        Args:
            model: "user/model", which is made if it is not there.
            private: whether a new model is.

        Returns:
            A line that says where it is, and what was replaced.

        Raises:
            UserError: there is no login, no right or no network; or the weights come from no
                snapshot, or have changed since.
        """
        from progan.outputs.hub import push_generator

        return push_generator(self, model, private)
