import numpy as np
import pytest

from pyro_dsae.datasets import DataError, MovingShapes, OptionError, SequenceFile, prepare, renderer
from pyro_dsae.datasets.moving_shapes import BACKGROUNDS, COLOURS, MOTIONS, SPEEDS

NAMES = [factor.name for factor in MovingShapes.factors]
EVERYONE = np.arange(324)
VERTICAL = np.arange(16, 32, 2)[None]  # its 8 phases, slow: all 64 places


def places(steps):
    """Place of every motion class at every step, from the labels, int (96, T, 2)."""
    source = MovingShapes(steps=steps)
    labels = source.labels(np.array([0]))
    centres = source.step_labels(labels) * 64
    assert np.array_equal(centres, np.round(centres))
    return (centres.astype(int) - 18) // 4


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "ragged.h5"
    options = {"steps": 10, "shortest": 4, "size": 32, "motions": 12, "seed": 3}
    return prepare("moving-shapes", path, characters=20, **options)


@pytest.mark.parametrize("steps", [3, 8, 50])
def test_all_96_motions_differ(steps):
    assert len(np.unique(places(steps), axis=0)) == 96


@pytest.mark.parametrize("start", [0, 5])
def test_every_motion_at_either_speed_visits_every_place_once(start):
    paths = places(13)[:, start : start + 8].reshape(6, 8, 2, 8, 2)
    assert paths.min() == 0 and paths.max() == 7
    for motion in range(6):
        for speed in range(2):
            assert len(np.unique(paths[motion, :, speed].reshape(-1, 2), axis=0)) == 64


def test_motions_go_where_their_name_says():
    paths = dict(zip(MOTIONS, places(9).reshape(6, 8, 2, 9, 2), strict=True))
    moves = {name: (np.diff(path, axis=2) + 4) % 8 - 4 for name, path in paths.items()}
    for speed, places_a_step in enumerate(SPEEDS.values()):
        one = {name: move[:, speed] for name, move in moves.items()}  # (8, 8, 2)
        assert (one["horizontal"] == [places_a_step, 0]).all()
        assert (one["vertical"] == [0, places_a_step]).all()
        assert (one["diagonal"] == [places_a_step, places_a_step]).all()
        assert (one["antidiagonal"] == [places_a_step, -places_a_step]).all()
    for name, sign in (("clockwise", 1), ("counterclockwise", -1)):
        x, y = np.moveaxis(moves[name][:, 0], -1, 0)  # slow, (8, 8) each
        assert (sign * (x[:, :-1] * y[:, 1:] - y[:, :-1] * x[:, 1:]) > 0).all()  # y is down
        assert (x.sum(axis=1) == 0).all() and (y.sum(axis=1) == 0).all()
        assert np.array_equal(paths[name][:, 1], paths[name][:, 0][:, np.arange(9) * 3 % 8])


@pytest.mark.parametrize("size", [32, 48])
def test_every_character_differs_from_all_others_in_every_frame(size):
    source = MovingShapes(size=size)
    frames = set()
    for characters in np.split(EVERYONE, 12):
        labels = source.labels(characters, np.repeat(VERTICAL, len(characters), axis=0))
        rendered = source.render(labels).reshape(-1, size * size * 3)
        frames |= {frame.tobytes() for frame in rendered}
    assert len(frames) == 324 * 64


@pytest.mark.parametrize("size", [32, 48, 64, 256])
def test_a_shape_stays_whole_and_its_centre_of_mass_is_the_label(size):
    source = MovingShapes(size=size)
    motions = VERTICAL if size < 256 else VERTICAL[:, :2]
    for shape, name in enumerate(MovingShapes.factors[0].classes):
        for width_class, width in enumerate((size // 4, size // 16 * 6, size // 2)):
            character = np.array([shape * 54 + 2 * 9 + width_class * 3 + 1])  # blue on grey
            labels = source.labels(character, motions)
            frames = source.render(labels).reshape(-1, size, size, 3)
            inside = (frames == COLOURS["blue"]).all(axis=-1)
            assert ((frames == BACKGROUNDS["grey"]).all(axis=-1) == ~inside).all()
            assert len(np.unique(inside.sum(axis=(1, 2)))) == 1
            centres = source.step_labels(labels).reshape(-1, 2) * size
            for axis in (0, 1):  # columns, then rows
                pixels = inside.sum(axis=1 + axis)  # (frames, S)
                mass = pixels @ (np.arange(size) + 0.5) / pixels.sum(axis=1)
                extent, near = width, 1e-4
                if name == "triangle" and axis == 1:  # three quarters as high, its tip has no pixel
                    extent = -(-3 * width // 4) - 1
                    near = 0.4 if width // 2 % 2 else 0.1  # there may be no row at its centre
                assert np.allclose(mass, centres[:, axis], rtol=0, atol=near)
                seen = pixels > 0
                first, last = seen.argmax(axis=1), size - seen[:, ::-1].argmax(axis=1)
                assert (last - first == extent).all()


def test_render_keeps_appearance_and_motion_apart():
    source = MovingShapes()
    a, b = np.array([[0, 0, 0, 0, 0, 0, 0]]), np.array([[0, 5, 0, 2, 4, 3, 1]])
    swapped = np.concatenate([a[:, :4], b[:, 4:]], axis=1)
    frames = source.render(swapped)
    red = (frames == COLOURS["red"]).all(axis=-1)
    assert np.array_equal(red, (source.render(b) == COLOURS["cyan"]).all(axis=-1))
    assert (frames[~red] == BACKGROUNDS["black"]).all()
    assert np.array_equal(source.step_labels(swapped), source.step_labels(b))


def test_the_default_is_7776_sequences_and_split_by_character():
    source, parts = MovingShapes(), MovingShapes.split()
    assert [len(parts["train"]), len(parts["test"])] == [250, 74]
    assert sorted(np.concatenate(list(parts.values()))) == EVERYONE.tolist()
    motions = source.motions(EVERYONE)
    assert motions.shape == (324, 24)
    assert all(len(set(row)) == 24 for row in motions.tolist())
    assert len(np.unique(motions, axis=0)) == 324
    counts = np.bincount(motions.ravel(), minlength=96)
    assert counts.min() > 50 and counts.max() < 120  # 81 each, give or take
    assert MovingShapes(motions=96).motions(np.array([7])).tolist() == [list(range(96))]


def test_seeds_draw_other_motions_and_fewer_motions_are_some_of_them():
    base = MovingShapes().motions(EVERYONE)
    assert np.array_equal(base, MovingShapes(steps=20, size=32).motions(EVERYONE))
    assert not np.array_equal(base, MovingShapes(seed=1).motions(EVERYONE))
    fewer = MovingShapes(motions=5).motions(EVERYONE)
    assert all(set(few) < set(row) for few, row in zip(fewer, base, strict=True))
    lengths = [
        MovingShapes(shortest=3, seed=s).lengths(MovingShapes.labels([0])) for s in (0, 0, 1)
    ]
    assert np.array_equal(lengths[0], lengths[1]) and not np.array_equal(lengths[0], lengths[2])


def test_lengths_are_uniform():
    lengths = MovingShapes(steps=8, shortest=5).lengths(MovingShapes.labels(EVERYONE))
    share = np.bincount(lengths, minlength=9) / len(lengths)
    assert (share[:5] == 0).all() and np.allclose(share[5:], 0.25, atol=0.01)


def test_a_file_of_unequal_lengths_is_padded_with_zeros(ragged):
    with SequenceFile.open(ragged) as data:
        assert len(data) == 20 * 12
        assert set(data.lengths) == set(range(4, 11))
        assert data.frame_shape == (3, 32, 32)
        source, labels = renderer(data), data.labels(NAMES)
        frames, true = data.read(np.arange(len(data))), source.render(labels)
        real = np.arange(10) < data.lengths[:, None]
        assert np.array_equal(frames[real], true[real])
        assert not frames[~real].any()
        assert true.shape == frames.shape and (true[~real] != 0).any()
        centres = data.step_labels(["x", "y"])
        assert centres.shape == (240, 10, 2) and centres.dtype == np.float32
        assert np.array_equal(centres[real], source.step_labels(labels)[real])
        assert not centres[~real].any()
        assert np.array_equal(data.groups, source.character(labels))
        assert not set(data.groups[data.split("train")]) & set(data.groups[data.split("test")])
        assert data.ids == source.ids(labels) and data.ids[0].count("-") == 3
        data.verify()


def test_a_file_names_its_factors_by_sequence_and_by_step(ragged):
    with SequenceFile.open(ragged) as data:
        assert data.factors == MovingShapes.factors
        assert data.step_factors == MovingShapes.step_factors
        assert data.step_labels([]).shape == (240, 10, 0)
        with pytest.raises(DataError, match="'x' has a value for each step; choose one with a val"):
            data.labels(["x"])
        with pytest.raises(DataError, match="'shape' has a value for each sequence; choose"):
            data.step_labels(["shape"])
        with pytest.raises(DataError, match="has no factor 'z'; its factors are shape, colour"):
            data.step_labels(["z"])


def test_the_same_options_give_the_same_content(ragged, tmp_path):
    with SequenceFile.open(ragged) as data:
        content, recipe = data.content_sha256, data.recipe
    options = {key: recipe[key] for key in MovingShapes.options()}
    contents = []
    for name, changes in {"a": {}, "b": {"seed": 4}, "c": {"shortest": 5}}.items():
        path = prepare("moving-shapes", tmp_path / name, characters=20, **(options | changes))
        with SequenceFile.open(path) as data:
            contents.append(data.content_sha256)
    assert contents[0] == content
    assert len(set(contents)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "steps = 2 is out of range, expected 3 to 1000"),
        ({"steps": 8.0}, "steps = 8.0 is out of range"),
        ({"shortest": 9}, "shortest = 9 is out of range, expected 3 to 8"),
        ({"shortest": 2}, "shortest = 2 is out of range"),
        ({"size": 16}, "size = 16 is out of range, expected 32 to 256"),
        ({"size": 65}, "size = 65 is not a multiple of 16; try 64"),
        ({"motions": 0}, "motions = 0 is out of range, expected 1 to 96"),
        ({"motions": 97}, "motions = 97 is out of range"),
        ({"seed": -1}, "seed = -1 is out of range, expected 0 to 4294967295"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        MovingShapes(**options)
