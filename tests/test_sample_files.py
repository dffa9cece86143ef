"""Many samples: formats, archives, going on, several processes, stages, the best of several."""

import re
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from test_sampling import make_snapshot, read, refused, sample

from progan.model.networks import Critic
from progan.model.sampling import generate, latents
from progan.runs import best_of, latents_file, sample_files
from progan.runs.best_of import BestOf
from progan.runs.latents_file import read_latents
from progan.runs.sample_files import write_pictures
from progan.runs.samples import Samples
from progan.runs.snapshot_file import load_snapshot
from progan.runtime.errors import UserError
from progan.runtime.text import short

Z_DIM = 512  # of `make_snapshot`
SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg", "zip": ".png", "npz": ".png"}


def contents(out) -> dict[str, bytes]:
    """Of the files in a folder, or of one."""
    return {file.name: file.read_bytes() for file in (out.iterdir() if out.is_dir() else [out])}


@pytest.mark.parametrize("kind", SUFFIXES)
def test_many_go_on_where_they_stopped(tmp_path, monkeypatch, kind):
    """Reference: the bytes that a command writes without a stop. Only those images are made that
    are not there, hold another seed's or are cut short. Afterwards nothing is made."""
    path, archive = make_snapshot(tmp_path, classes=("a", "b")), kind in ("zip", "npz")
    ending = f".{kind}" if archive else ""
    words = [path, "--num", 5, "--scale", 3, *(() if archive else ("--format", kind)), "--out"]
    whole, again = tmp_path / "1" / f"x{ending}", tmp_path / "2" / f"x{ending}"
    for folder in (whole.parent, again.parent):
        folder.mkdir()
    assert sample(*words, whole) == f"10 images of 48x48 in {whole}\n"
    made = []
    make = Samples.make
    monkeypatch.setattr(Samples, "make", lambda self, i: made.extend(i) or make(self, i))
    parts = again.with_name(f"{again.name}.partial") if archive else again
    sample(*words, parts)
    files = [parts / f"seed000{k}-class-a{SUFFIXES[kind]}" for k in range(5)]
    files[1].unlink()
    files[2].write_bytes(files[4].read_bytes())
    files[3].write_bytes(files[3].read_bytes()[:-30])
    made.clear()
    assert " (7 of them there already" in sample(*words, again)
    assert made == [1, 2, 3] and contents(again) == contents(whole)
    assert sample(*words, again).endswith(" (there already)\n") and made == [1, 2, 3]
    assert sorted(again.parent.iterdir()) == [again]


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_images_that_are_there_count_for_no_speed(tmp_path, monkeypatch, ending):
    """Reference: 3 images are made in 10 s, and 67 are there already."""
    path, out = make_snapshot(tmp_path), tmp_path / f"x{ending}"
    parts = sample_files.parts_of(out) if ending else out
    sample(path, "--num", 67, "--out", parts)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("progan.runtime.progress.time.monotonic", lambda: next(clock) / 5)
    said: list[str] = []
    samples = Samples(load_snapshot(path), list(range(70)), None)
    line = sample_files.write_samples(samples, out, ".png", None, said.append)
    assert "(67 of them there already)" in line
    (last,) = [line for line in said if line.startswith("samples: done")]
    seconds = float(last.split()[3])
    assert last.endswith(f", {short(3 / seconds)} images/s")
    said.clear()
    sample_files.write_samples(samples, out, ".png", None, said.append)
    assert not any("images/s" in line for line in said)


def test_what_an_npz_and_a_zip_hold(tmp_path):
    """Reference: `generate`; a grey generator's npz has a channel, too."""
    path = make_snapshot(tmp_path, classes=("a", "b"))
    snapshot = load_snapshot(path)
    sample(path, "--seeds", "3,5", "--out", tmp_path / "x.npz")
    sample(path, "--seeds", "3,5", "--format", "webp", "--out", tmp_path / "x.zip")
    expected = generate(snapshot.G, [3, 5] * 2, np.array([0, 0, 1, 1]), 16, None)
    with np.load(tmp_path / "x.npz") as arrays:
        assert sorted(arrays) == ["images", "labels", "seeds"]
        assert np.abs(arrays["images"].transpose(0, 3, 1, 2).astype(int) - expected).max() <= 1
        assert arrays["seeds"].tolist() == [3, 5, 3, 5] and arrays["labels"].tolist() == [
            0,
            0,
            1,
            1,
        ]
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        names = [f"seed000{s}-class-{c}.webp" for c in "ab" for s in (3, 5)]
        assert archive.namelist() == names and b"trainedAlgorithmicMedia" in archive.comment
        with archive.open(names[3]) as file, Image.open(file) as image:
            assert np.abs(np.asarray(image, int).transpose(2, 0, 1) - expected[3]).max() <= 1


def test_one_command_at_a_time_fills_an_archive(tmp_path):
    """Reference: the sentence, and nothing made. After a failure nothing is left but pictures."""
    path, out = make_snapshot(tmp_path), tmp_path / "x.zip"
    words = [path, "--num", 2, "--out", out]
    with sample_files.alone_in(sample_files.parts_of(out)):
        assert "another command makes images in" in refused(*words)
    assert not sample_files.parts_of(out).exists() and not out.exists()
    sample(*words)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "run", out]


def write_arrays(path, **arrays):
    """Arrays as a .npy (of z), a .npz or a .safetensors."""
    if path.suffix == ".npy":
        np.save(path, arrays["z"])
    elif path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        save_file(arrays, path)
    return path


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("labels", [True, False])
def test_given_latents(tmp_path, ending, labels):
    """Reference: the images of seeds 3 and 5, whose latents the file has. Labels in it are used,
    unless a class is named. Other latents under the same names are other images."""
    path = make_snapshot(tmp_path, classes=("a", "b") if labels else ())
    snapshot, z = load_snapshot(path), latents([3, 5], Z_DIM)
    c = {"c": np.eye(2, dtype=np.float32)[[1, 0]]} if labels and ending != ".npy" else {}
    file = write_arrays(tmp_path / f"x{ending}", z=z.numpy(), **c)

    def made(name, seeds, k):
        image = generate(snapshot.G, seeds, np.array([k]) if labels else None, 16, None)[0]
        found = read(tmp_path / "out" / f"{name}.png").transpose(2, 0, 1)
        return np.abs(found - image).max() <= 1

    words = [path, "--latents", file, "--out", tmp_path / "out"]
    sample(*words)
    in_file = "" if c or not labels else "-class-a"
    assert made(f"latent0000{in_file}", [3], 1 if c else 0)
    assert made(f"latent0001{in_file}", [5], 0)
    assert sample(*words).endswith("(there already)\n")
    if labels:
        sample(*words, "--class", "b")
        assert made("latent0001-class-b", [5], 1)
    write_arrays(file, z=z.flip(0).numpy(), **c)
    assert sample(*words).endswith("files replaced)\n") and made(f"latent0001{in_file}", [3], 0)
    sample(*words[:3], "--out", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as arrays:
        assert (arrays["z"][:2] == z.flip(0).numpy()).all() and "seeds" not in arrays


def z_of(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


NAN = np.stack([np.ones(Z_DIM), np.full(Z_DIM, np.nan)])
BAD_LATENTS = {  # why a file is refused, and what it holds
    "there is no such file": None,
    "shape [2, 9], and must have [N, 512]": {"z": z_of(2, 9)},
    "shape [512], and must": {"z": z_of(Z_DIM)},
    "shape [0, 512], and must": {"z": z_of(0, Z_DIM)},
    "type int64": {"z": z_of(2, Z_DIM, dtype=int)},
    "1 of 2 rows are not finite, the first is 1": {"z": NAN},
    "2 of 2 rows": {"z": np.full((2, Z_DIM), 1e300)},
    "no array called z": {"w": z_of(2, Z_DIM)},
    "2 latents and 1 labels": {"z": z_of(2, Z_DIM), "c": np.eye(2)[:1]},
    "must have one 1": {"z": z_of(2, Z_DIM), "c": np.ones((2, 2))},
    "c has the shape [2, 3]": {"z": z_of(2, Z_DIM), "c": np.eye(3)[:2]},
    "Python objects": {"z": np.array([[{}] * Z_DIM])},
}


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
def test_bad_latents_are_explained(tmp_path, monkeypatch, ending):
    """Reference: each reason by its words; a file cut short, another's content and a link to
    nothing are refused, too. Nothing is unpickled."""
    snapshot = load_snapshot(make_snapshot(tmp_path, classes=("a", "b")))
    file = tmp_path / f"x{ending}"
    for why, arrays in BAD_LATENTS.items():
        if ending == ".npy" and arrays is not None and set(arrays) != {"z"}:
            continue  # it has no names
        if ending == ".safetensors" and why in ("Python objects", "type int64"):
            continue  # it has no objects, and other names of types
        if arrays is not None:
            write_arrays(file, **arrays)
        with pytest.raises(UserError, match=re.escape(why)):
            read_latents(file, snapshot)
    monkeypatch.setattr(latents_file, "MOST", 1)
    write_arrays(file, z=z_of(2, Z_DIM))
    with pytest.raises(UserError, match="N from 1 to 1"):
        read_latents(file, snapshot)
    whole = file.read_bytes()
    for content in (b"", whole[:100], whole[:-9], b"PK\3\4" + bytes(300), b"\xff" * 300):
        file.write_bytes(content)
        with pytest.raises(UserError, match="--latents .*x"):
            read_latents(file, snapshot)
    other = tmp_path / "x.pt"
    other.write_bytes(whole)
    with pytest.raises(UserError, match="the name must end in"):
        read_latents(other, snapshot)


def test_latents_take_the_place_of_seeds(tmp_path):
    """Reference: the message. Seeds beside latents would be ignored without a word."""
    for words in (["--seeds", "1"], ["--num", "2"], ["--best-of", "2"]):
        told = refused(make_snapshot(tmp_path), "--latents", tmp_path / "x.npy", *words)
        assert "--latents are in place of seeds" in told


def test_several_processes_make_a_share_each(tmp_path, monkeypatch):
    """Reference: what one process writes. Three, here threads that wait for each other where
    processes do, make a share each, and later only what is missing, with the same counts."""
    samples = Samples(load_snapshot(make_snapshot(tmp_path)), range(20), batch=3)
    barrier, given, made = threading.Barrier(3), {}, []
    make = Samples.make
    monkeypatch.setattr(Samples, "make", lambda self, i: made.append(list(i)) or make(self, i))

    def summed(accelerator, counts):
        if accelerator.num_processes == 1:
            return counts
        given[accelerator.process_index] = counts
        barrier.wait(60)
        total = [sum(each) for each in zip(*given.values(), strict=True)]
        barrier.wait(60)
        return total

    monkeypatch.setattr(sample_files, "summed", summed)

    def write(folder: str, processes: int) -> list[tuple[int, int]]:
        paths = sample_files.paths_in(tmp_path / folder, samples, ".png")
        made.clear()
        with ThreadPoolExecutor(processes) as pool:
            ranks = (
                SimpleNamespace(num_processes=processes, process_index=k) for k in range(processes)
            )
            return list(pool.map(lambda rank: write_pictures(samples, paths, rank, None), ranks))

    write("one", 1)
    assert write("three", 3) == [(0, 0)] * 3
    assert sorted(made) == [[i, i + 1, i + 2][: 20 - i] for i in range(0, 20, 3)]
    assert contents(tmp_path / "three") == contents(tmp_path / "one")
    for seed in (0, 4, 9, 19):
        (tmp_path / "three" / f"seed{seed:04d}.png").unlink()
    (tmp_path / "three" / "seed0011.png").write_bytes(b"another")
    assert write("three", 3) == [(15, 1)] * 3
    assert sorted(made) == [[0, 4, 9], [11, 19]]
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


def test_an_earlier_stage_enlarged(tmp_path):
    """Reference: `Snapshot.sample`, which has the stage's own last layer and no fade; pixels
    repeated. Each file says which stage it is."""
    path = make_snapshot(tmp_path, alpha=0.5)
    words = [path, "--seeds", 3, "--resolution", 8, "--scale", 4, "--out", tmp_path / "x.png"]
    assert sample(*words).startswith("1 image of 32x32 in ")
    expected = load_snapshot(path).sample([3], resolution=8)[0].repeat(4, 0).repeat(4, 1)
    assert (read(tmp_path / "x.png") == expected).all()
    with Image.open(tmp_path / "x.png") as image:
        assert image.text["resolution"] == "8x8, an earlier stage of 16x16"
        assert image.text["seed"] == "3" and image.text["enlarged"] == "4"
        assert str(tmp_path) not in "".join(map(str, image.info.values()))
    assert "resolution 32 is none of this snapshot's: 4, 8, 16" in refused(path, "--resolution", 32)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num", 3, "--seeds", "1"], "give --seeds or --num, not both"),
        (["--format", "npz", "--out", "x"], "does not end in .npz"),
        (["--format", "png", "--out", "x.npz"], "does not end in .png"),
        (["--format", "jpeg", "--grid", "--out", "x.png"], "does not end in .jpg"),
        (["--grid", "--out", "x.zip"], "--grid makes one picture"),
        (["--grid", "--num", 100_000], "ask for fewer seeds"),
        (["--resolution", 7], "is not a resolution"),
        (["--scale", 256, "--resolution", 4, "--num", 600_000, "--class", "a"], "no class 'a'"),
        (["--out", "nowhere/x.zip"], "there is no folder nowhere"),
        (["--best-of", 4], "--best-of needs the critic"),
    ],
)
def test_what_cannot_be_written(tmp_path, monkeypatch, words, message):
    """Reference: the sentence that says what to do; nothing is left."""
    path = make_snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(refused(path, *words).split())
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_the_best_of_several(tmp_path, monkeypatch):
    """Reference: the critic itself, shown the candidates of a seed as one batch that is one group
    of minibatch stddev. The seed's own latent is the first candidate; the choice depends on no
    other seed."""
    snapshot = load_snapshot(make_snapshot(tmp_path, classes=("a", "b"), alpha=0.25))
    torch.manual_seed(1)
    D = Critic(**snapshot.config.network.critic_settings(), c_dim=2).requires_grad_(False)
    monkeypatch.setattr(best_of, "load_critic", lambda *_: (D, 1_900_000))  # 16x16 fades in
    choose = BestOf(snapshot, 6, torch.device("cpu"))
    labels = np.array([0, 1, 1])
    chosen = choose.latents([3, 4, 5], labels)
    D.blocks["4"].stddev_group = 6
    for seed, label, z in zip([3, 4, 5], labels, chosen, strict=True):
        candidates = torch.cat([latents([seed], snapshot.G.z_dim, k) for k in range(6)])
        assert torch.equal(candidates[0], latents([seed], snapshot.G.z_dim)[0])
        c = torch.eye(2)[[label] * 6]
        images = snapshot.G(candidates, c, resolution=16, alpha=torch.tensor(0.25))
        scores, _ = D(images, torch.tensor(0.25))
        assert len(set(scores.tolist())) == 6
        assert torch.equal(z, candidates[scores.argmax()])
    assert torch.equal(choose.latents([5], labels[2:])[0], chosen[2])
