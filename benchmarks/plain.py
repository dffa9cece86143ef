"""A textbook training step, to compare ours with: eager, float32, NCHW, nothing fused.

Networks and loss are the paper's, written separately from `progan` and without its savings:
separate backward calls, `.item()` for the log, a Python loop for the average.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

SQRT2 = math.sqrt(2)


class Conv(nn.Module):
    def __init__(self, inputs, outputs, size, gain=SQRT2):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs * size * size)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class Dense(nn.Module):
    def __init__(self, inputs, outputs, gain=SQRT2, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias)


def lrelu(x):
    return F.leaky_relu(x, 0.2)


def norm(x):
    return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


class Generator(nn.Module):
    def __init__(self, resolution, z_dim, width):
        super().__init__()
        self.dense = Dense(z_dim, width(4) * 16, gain=SQRT2 / 4, bias=False)
        self.bias = nn.Parameter(torch.zeros(width(4)))
        self.first = Conv(width(4), width(4), 3)
        self.blocks = nn.ModuleList()
        for i in range(3, int(math.log2(resolution)) + 1):
            below, here = width(2 ** (i - 1)), width(2**i)
            self.blocks.append(nn.ModuleList([Conv(below, here, 3), Conv(here, here, 3)]))
        if resolution > 4:
            self.rgb_below = Conv(width(resolution // 2), 3, 1, gain=1)
        self.rgb = Conv(width(resolution), 3, 1, gain=1)

    def forward(self, z, alpha=None):
        x = self.dense(norm(z)).reshape(len(z), -1, 4, 4) + self.bias[:, None, None]
        x = norm(lrelu(self.first(norm(lrelu(x)))))
        below = x
        for block in self.blocks:
            one, two = block.children()
            below = x
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = norm(lrelu(two(norm(lrelu(one(x))))))
        if alpha is None:
            return self.rgb(x)
        below = self.rgb_below(F.interpolate(below, scale_factor=2, mode="nearest"))
        return (1 - alpha) * below + alpha * self.rgb(x)


class Critic(nn.Module):
    def __init__(self, resolution, width):
        super().__init__()
        self.conv = Conv(width(4) + 1, width(4), 3)
        self.dense = Dense(width(4) * 16, width(2))
        self.out = Dense(width(2), 1, gain=1)
        self.blocks = nn.ModuleList()
        for i in range(3, int(math.log2(resolution)) + 1):
            here, below = width(2**i), width(2 ** (i - 1))
            self.blocks.append(nn.ModuleList([Conv(here, here, 3), Conv(here, below, 3)]))
        if resolution > 4:
            self.rgb_below = Conv(3, width(resolution // 2), 1)
        self.rgb = Conv(3, width(resolution), 1)

    def forward(self, images, alpha=None):
        x = lrelu(self.rgb(images))
        for i, block in enumerate(reversed(self.blocks)):
            one, two = block.children()
            x = F.avg_pool2d(lrelu(two(lrelu(one(x)))), 2)
            if i == 0 and alpha is not None:
                below = lrelu(self.rgb_below(F.avg_pool2d(images, 2)))
                x = (1 - alpha) * below + alpha * x
        n, _, h, w = x.shape
        groups = x.reshape(min(4, n), -1, *x.shape[1:])
        deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
        x = torch.cat([x, deviation.repeat(min(4, n), 1, h, w)], 1)
        x = lrelu(self.dense(lrelu(self.conv(x)).flatten(1)))
        return self.out(x)[:, 0]


class PlainStep:
    """Networks, optimizers, and one whole training step."""

    def __init__(self, resolution, z_dim, width, device):
        self.G = Generator(resolution, z_dim, width).to(device)
        self.D = Critic(resolution, width).to(device)
        self.G_ema = copy.deepcopy(self.G)
        self.G_opt, self.D_opt = (
            torch.optim.Adam(net.parameters(), lr=0.001, betas=(0.0, 0.99))
            for net in (self.G, self.D)
        )
        self.log = {}

    def __call__(self, reals, z, mix, z2, alpha=None):
        if alpha is not None:
            low = F.interpolate(F.avg_pool2d(reals, 2), scale_factor=2, mode="nearest")
            reals = (1 - alpha) * low + alpha * reals
        self.D_opt.zero_grad()
        real = self.D(reals, alpha)
        loss_real = (-real + 0.001 * real**2).mean()
        loss_real.backward()
        fakes = self.G(z, alpha).detach()
        loss_fake = self.D(fakes, alpha).mean()
        loss_fake.backward()
        mixed = torch.lerp(reals, fakes, mix.detach()[:, None, None, None]).requires_grad_()
        scores = self.D(mixed, alpha)
        (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        penalty = 10 * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        penalty.backward()
        self.D_opt.step()
        self.log["D"] = loss_real.item() + loss_fake.item() + penalty.item()

        self.G_opt.zero_grad()
        loss = -self.D(self.G(z2, alpha), alpha).mean()
        loss.backward()
        self.G_opt.step()
        self.log["G"] = loss.item()

        with torch.no_grad():
            for average, p in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                average.copy_(0.999 * average + 0.001 * p)
