"""Networks of other projects, trained on: the losses of their own code, and where they go on."""

import math

import pytest
import torch
import yaml
from conftest import TINY
from test_foreign import WIDTHS, N, Z, double, normal, pth_scores, up, version_3, zoo, zoo_scores
from test_import import tf_file, torch_file

import progan
from progan.config.load import assignments
from progan.config.settings import NetworkConfig
from progan.interop import gan_zoo, pro_gan_pth
from progan.interop.importing import read_file, write_run
from progan.model.networks import Critic, Generator
from progan.runs.folder import read_config
from progan.training.feed import Batch
from progan.training.updates import LossSettings, critic_gradients

RATE, UPDATES = 0.01, 4


def their_loss(scores_of, reals, fakes, mix):
    """WGAN-GP by its paper, with the drift of ProGAN's."""
    between = (1 - mix) * reals + mix * fakes
    (slope,) = torch.autograd.grad(scores_of(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1) ** 2
    real, fake = scores_of(reals), scores_of(fakes)
    return (fake - real + 10 * penalty + 0.001 * real**2).mean()


def of_zoo(path):
    """A network in the middle of a fade: 30 % of the new path."""
    content = zoo(alpha=0.7)
    path.write_bytes(torch_file(content, zipped=False))
    weights = content["netD"] = double(content["netD"])
    return weights, lambda x: zoo_scores(content, x)[:, 0]


def of_version_3(path):
    content = version_3()
    path.write_bytes(torch_file(content, zipped=True))
    part = content["discriminator"]
    weights = part["state_dict"] = double(part["state_dict"])
    return weights, lambda x: pth_scores(content, x)[:, 0]


TABLES = {
    "zoo": (of_zoo, lambda: gan_zoo.critic_table(WIDTHS, 0, 3, True, True)),
    "version 3": (of_version_3, lambda: pro_gan_pth.critic_table(WIDTHS, 8, 3, True)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_losses_while_it_trains_on(kind, tmp_path):
    """Reference: their critic's forward pass, the loss by its paper, and steps down its gradient
    with their weights. A weight of theirs that is f times as large here moves f² times as fast."""
    make, table = TABLES[kind]
    theirs, scores_of = make(tmp_path / "file")
    it = read_file(tmp_path / "file")
    config = NetworkConfig(**it.network)
    G = Generator(**config.generator_settings()).double()
    G.load_state_dict(it.weights["G"])
    D = Critic(**config.critic_settings()).double()
    D.load_state_dict(it.weights["D"])
    fade = None if it.alpha is None else torch.tensor(it.alpha).double()
    sources = table()
    for weight in theirs.values():
        weight.requires_grad_()
    for k in range(UPDATES):
        reals = normal(N, 3, 16, 16, seed=k).double()
        z, mix = normal(N, Z, seed=k).double(), torch.linspace(0, 1, N).double().requires_grad_()
        batch = Batch(z=z, c=None, reals=reals, mix=mix)
        grads, stats = critic_gradients(G, D, [*D.parameters()], batch, fade, LossSettings())
        with torch.no_grad():
            fakes = G(z, resolution=16, alpha=fade)
        if it.alpha:  # theirs sees reals that are as sharp as its fakes
            reals = it.alpha * reals + (1 - it.alpha) * up(torch.nn.AvgPool2d(2)(reals))
        loss = their_loss(scores_of, reals, fakes, mix[:, None, None, None])
        torch.testing.assert_close(stats["Loss/D"], loss.detach(), rtol=1e-5, atol=0)
        loss.backward()
        with torch.no_grad():
            for (name, weight), grad in zip(D.named_parameters(), grads, strict=True):
                weight -= RATE * sources[name].factor ** 2 * grad
            for weight in theirs.values():
                if weight.grad is not None:  # of what is in use
                    weight -= RATE * weight.grad
                    weight.grad = None


def test_a_fade_goes_on_and_the_network_grows(tmp_path, photos):
    """Reference: the file's alpha, 0.5 at 8x8 (lod 0.5 of 8x8), and the linear fade to 1; then
    16x16, which the file's networks do not have. The run resumes without the file."""
    (tmp_path / "file").write_bytes(tf_file())
    it = read_file(tmp_path / "file")
    write_run(it, tmp_path / "file", tmp_path / "run")
    settings = {k: yaml.safe_load(str(v)) for k, v in TINY.items() if k[:7] != "network"}
    settings |= {"schedule.total_kimg": None, "schedule.learning_rate": 0.002}
    settings |= {"data.source": str(photos), "network.resolution": 16}
    config = read_config(tmp_path / "run", assignments(settings))
    phases = config.make_schedule().phases
    assert [(phase.resolution, phase.fading) for phase in phases] == [
        *((8, True), (8, False), (16, True), (16, False)),
    ]
    assert config.make_schedule().reached(0) == (8, it.alpha) == (8, 0.5)
    half = (phases[0].start_nimg + phases[0].end_nimg) // 2
    assert math.isclose(phases[0].alpha(half), 0.75)
    progan.resume(tmp_path / "run", settings)
    (tmp_path / "run" / "imported.pt").unlink()
    snapshot = progan.resume(tmp_path / "run", {"schedule.total_kimg": 0.176})
    assert snapshot.nimg == 176
    assert (snapshot.resolution, snapshot.alpha, snapshot.licence) == (16, None, "CC-BY-NC-4.0")
    assert snapshot.sample([0]).shape == (1, 16, 16, 3)
