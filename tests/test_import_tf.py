"""Networks of the official code: their images and scores here are those of their equations."""

import io

import numpy as np
import official
import pytest
import torch

from progan.config.config import Config
from progan.interop.imported import Imported
from progan.interop.pickles import PickleReader
from progan.interop.tensorflow import convert, recognize
from progan.model.networks import Critic, Generator
from progan.runtime.errors import UserError

CASES = {
    "fused": {},
    "unfused": {"fused_scale": False},
    "grey, labels": {"num_channels": 1, "label_size": 3},
    "other widths": {"fmap_decay": 0.7, "fmap_max": 7},
    "ablations": {"use_wscale": False, "use_pixelnorm": False, "mbstd_group_size": 0},
}


def imported(content: bytes) -> Imported:
    read = PickleReader(io.BytesIO(content), len(content)).build()
    assert recognize(read)
    return convert(read)


def drawn_here(it: Imported, name: str, z: np.ndarray, c: np.ndarray) -> np.ndarray:
    network = Config(network=it.network, data={"source": "demo"}).network
    G = Generator(c_dim=len(it.labels), **network.generator_settings()).double()
    G.load_state_dict(it.weights[name])
    alpha = None if it.alpha is None else torch.tensor(it.alpha, dtype=torch.float64)
    labels = torch.tensor(c) if it.labels else None
    with torch.no_grad():
        return G(torch.tensor(z), labels, resolution=it.resolution, alpha=alpha).numpy()


def scored_here(it: Imported, images: np.ndarray) -> np.ndarray:
    network = Config(network=it.network, data={"source": "demo"}).network
    D = Critic(c_dim=len(it.labels), **network.critic_settings()).double()
    D.load_state_dict(it.weights["D"])
    alpha = None if it.alpha is None else torch.tensor(it.alpha, dtype=torch.float64)
    with torch.no_grad():
        scores, logits = D(torch.tensor(images), alpha)
    return torch.cat([scores[:, None], *([] if logits is None else [logits])], 1).numpy()


@pytest.mark.parametrize("lod", [0, 0.75, 2], ids=["stable", "fading", "4x4"])
@pytest.mark.parametrize(("case", "older"), [*((case, False) for case in CASES), ("unfused", True)])
def test_images_and_scores_are_the_official_ones(case, older, lod):
    """Reference: the published equations, written in NumPy float64 (`official`)."""
    options = official.OPTIONS | CASES[case]
    options |= {"mbstd_group_size": 16} if older else {}
    states = [official.drawn(role, options, lod, seed) for seed, role in enumerate(("G", "D", "G"))]
    write = official.older_state if older else official.state
    it = imported(
        official.pickled(
            *(write(role, options, v) for role, v in zip("GDG", states, strict=True)),
            module="network" if older else "tfutil",
        )
    )
    rng = np.random.default_rng(7)
    z, c = rng.standard_normal((8, 5)), np.eye(8)[:, : options["label_size"]]
    assert it.resolution == {0: 16, 0.75: 16, 2: 4}[lod] and it.alpha == {0.75: 0.25}.get(lod)
    for name, variables in (("G", states[0]), ("G_ema", states[2])):
        wanted = official.images(options, variables, z, c)
        np.testing.assert_allclose(drawn_here(it, name, z, c), wanted, atol=1e-5 * np.ptp(wanted))
    wanted_scores = official.scores(options, states[1], wanted)
    # Its groups take every second image of eight; here they are contiguous.
    order = np.arange(8) if older or case == "ablations" else np.arange(8).reshape(4, 2).T.ravel()
    found = scored_here(it, wanted[order])
    np.testing.assert_allclose(found, wanted_scores[order], atol=1e-5 * np.ptp(wanted_scores))


def one(**options: object) -> dict:
    settings = official.OPTIONS | options
    return official.state("G", settings, official.drawn("G", settings, 0, 1))


def claiming(**options: object) -> dict:
    """A network whose options are not those that its variables were made with."""
    return one() | {"static_kwargs": official.OPTIONS | options}


def test_one_generator_stands_for_the_average():
    """Reference: the file has no other network."""
    it = imported(official.pickled(one(), protocol=2))
    assert it.weights.keys() == {"G_ema"} and it.licence == "CC-BY-NC-4.0"
    assert any("stands for the average" in note for note in it.notes)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (one(normalize_latents=False), "normalize_latents=False"),
        (one(use_leakyrelu=False), "use_leakyrelu=False"),
        (one(pixelnorm_epsilon=1e-4), "pixelnorm_epsilon=0.0001"),
        (one() | {"variables": one()["variables"][:-1]}, "missing: 16x16/Conv1/bias"),
        (one() | {"variables": [*one()["variables"], ("more", np.zeros(1))]}, "unknown: more"),
        (claiming(fmap_max=5), "is of"),
        (
            one() | {"variables": [(f"v{k:05}", np.zeros(1)) for k in range(2000)]},
            "unknown: v00000, v00001, v00002, v00003, v00004, v00005 and 1994 more$",
        ),
        (
            one() | {"variables": [*one()["variables"], ("lod", np.zeros(1))]},
            "has two weights that are called",
        ),
        (claiming(label_size=-1), "label_size is -1; it must be a whole number from 0"),
        (claiming(latent_size="x"), "latent_size is x; it must be a whole number from 1"),
        (claiming(fmap_decay=1e308), r"its widths \(fmap_base=32, .* are not all from 1 to"),
        (claiming(fmap_base=float("nan")), "are not all from 1 to"),
        (one() | {"version": 3}, "version 3"),
        (one() | {"build_func_name": "D_paper"}, "no generator"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_cannot_be_is_said(state, words):
    """Reference: what was changed in the file, by name."""
    with pytest.raises(UserError, match=words):
        imported(official.pickled(state))


def test_a_critic_that_does_not_fit_is_left_out():
    """Reference: a critic of other widths than the generator."""
    narrow = official.OPTIONS | {"fmap_max": 4}
    critic = official.state("D", narrow, official.drawn("D", narrow, 0, 1))
    it = imported(official.pickled(one(), critic, one()))
    assert "D" not in it.weights
    assert "The critic is left out: it differs from the generator in channel_max." in it.notes
