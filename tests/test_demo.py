"""The data set `demo` that comes with progan: its pictures, attributes and labels."""

import numpy as np
import pytest

from progan.data.sources import demo

COUNT = 256


@pytest.fixture(scope="module")
def faces():
    return [demo.attributes(0, index) for index in range(COUNT)]


@pytest.mark.parametrize("resolution", [8, 32, 256])
def test_same_face_in_any_batch(resolution):
    """Reference: the face drawn alone; batch, order and repetition must not change a bit."""
    indices = [5, 900, 17, 3, 5, 8191, 44, 45, 46]
    batch = demo.draw(1, indices, resolution)
    for index, face in zip(indices, batch, strict=True):
        np.testing.assert_array_equal(face, demo.draw(1, [index], resolution)[0])
    np.testing.assert_array_equal(batch[::-1], demo.draw(1, indices[::-1], resolution))


def test_seeds_and_indices_differ():
    """Reference: the definition; another seed or index gives another face."""
    faces = np.concatenate([demo.draw(seed, range(32), 16) for seed in (0, 1)])
    assert len({face.tobytes() for face in faces}) == 64


@pytest.mark.parametrize("resolution", [4, 16, 32, 128, 1024])
def test_shape_and_type(resolution):
    """Reference: the documented interface."""
    faces = demo.draw(0, [0, 1], resolution)
    assert faces.shape == (2, 3, resolution, resolution) and faces.dtype == np.uint8
    assert demo.draw(0, [], resolution).shape == (0, 3, resolution, resolution)


@pytest.mark.parametrize("resolution", [0, 2, 33, 48, 2048])
def test_other_resolutions_are_refused(resolution):
    """Reference: the documented powers of two, 4..1024."""
    with pytest.raises(ValueError, match="power of two"):
        demo.draw(0, [0], resolution)


def test_every_attribute_varies(faces):
    """Reference: uniform draws; 256 of them show every choice, and fill a range to 5 % a side."""
    assert len(demo.ATTRIBUTES) >= 10 and list(faces[0]) == list(demo.ATTRIBUTES)
    for name, options in demo.ATTRIBUTES.items():
        values = {face[name] for face in faces}
        if isinstance(next(iter(options)), str):
            assert values == set(options), name
        else:
            low, high = options
            margin = 0.05 * (high - low)
            assert len(values) == COUNT, name
            assert low <= min(values) < low + margin and high - margin < max(values) <= high, name


def test_attributes_are_independent():
    """Reference: 0 correlation; of 2048 pairs |r| stays below 4.5 / sqrt(2048), 0.1."""
    faces = [demo.attributes(3, index) for index in range(2048)]
    columns = []
    for name, options in demo.ATTRIBUTES.items():
        values = [face[name] for face in faces]
        named = isinstance(values[0], str)
        columns.append([list(options).index(v) for v in values] if named else values)
    correlation = np.corrcoef(np.array(columns, float))
    assert abs(correlation - np.eye(len(columns))).max() < 0.1


def test_classes_occur_as_expected():
    """Reference: equal shares; a count stays within 4.5 standard deviations of the binomial."""
    count, share = 3000, 1 / len(demo.CLASSES)
    counts = np.bincount(demo.labels(0, range(count)), minlength=len(demo.CLASSES))
    assert abs(counts - count * share).max() < 4.5 * np.sqrt(count * share * (1 - share))


def test_labels_agree_with_attributes(faces):
    """Reference: the attribute `hair`, whose index in CLASSES the label is."""
    labels = demo.labels(0, range(COUNT))
    assert labels.dtype == np.int64 and labels.shape == (COUNT,)
    assert [demo.CLASSES[label] for label in labels] == [face["hair"] for face in faces]


@pytest.mark.parametrize("small", [8, 32, 64])
def test_close_to_the_box_average(small):
    """Reference: the same faces drawn at 128 and box averaged; off by below 1 level of 255."""
    fine = demo.draw(0, range(48), 128).astype(float)
    step = 128 // small
    average = fine.reshape(48, 3, small, step, small, step).mean((3, 5))
    assert abs(demo.draw(0, range(48), small) - average).mean() < 1


def test_windows_cut_nothing_off(monkeypatch):
    """Reference: the same faces, each shape evaluated over the whole picture."""
    pictures = demo.draw(2, range(200), 64)
    monkeypatch.setattr(demo.Faces, "window", lambda self, *box: self)
    np.testing.assert_array_equal(pictures, demo.draw(2, range(200), 64))
