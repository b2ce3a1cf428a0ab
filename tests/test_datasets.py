import ast
import functools
import hashlib
import http.server
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import LPC, ROOT
from pyro_dsae.datasets import (
    SOURCES,
    DataError,
    NotRenderableError,
    SequenceFile,
    Sprites,
    ToySprites,
    prepare,
    renderer,
)
from pyro_dsae.datasets.hdf5 import Factor, write
from pyro_dsae.datasets.sprites import SHEETS
from pyro_dsae.sequences import Standard

GOLDEN = "9a90d76e1172c33b1a9e318a299657cecb9d9d19ddfd0d085e800b796a07a9f3"
needs_sheets = pytest.mark.skipif(
    not LPC.is_dir(), reason="no LPC sheets: set DSAE_LPC to the folder that holds body/0.png"
)
FACTORS = ("body", "bottomwear", "topwear", "hair", "action", "direction")


@pytest.fixture(scope="module")
def toy():
    return ToySprites()


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory):
    return prepare("toy-sprites", tmp_path_factory.mktemp("toy") / "toy.h5", characters=8)


@pytest.fixture
def damaged(toy_file, tmp_path):
    """A copy of a good file, to damage."""
    return Path(shutil.copy(toy_file, tmp_path / "damaged.h5"))


def video(n=4, steps=3, **changes):
    """Arguments of `write` for n random sequences."""
    frames = np.random.default_rng(0).integers(0, 256, (n, steps, 4, 5, 3), np.uint8)
    return {
        "blocks": [frames[:1], frames[1:]],
        "labels": np.arange(n)[:, None],
        "factors": [Factor("kind", "static", tuple(f"k{i}" for i in range(n)))],
        "ids": [f"s{i}" for i in range(n)],
        "groups": np.arange(n),
        "splits": {"official": {"train": np.arange(n - 1), "test": np.array([n - 1])}},
        "name": "random",
        "source": "numpy",
        "licence": "CC0-1.0",
        "attribution": "none",
        "citation": "none",
        "recipe": {"seed": 0},
    } | changes


def one_line(error):
    """Whether an error reads as one line."""
    return "\n" not in str(error.value)


# Sprites


@needs_sheets
def test_sprites_are_the_published_ones():
    sprites = Sprites(LPC)
    digest = hashlib.sha256()
    for characters in np.split(np.arange(1296), 12):
        digest.update(sprites.render(sprites.labels(characters)))
    assert digest.hexdigest() == GOLDEN


@needs_sheets
@pytest.mark.parametrize("kind", ["file", "http"])
def test_sprites_from_a_url_equal_those_from_a_folder(kind, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    labels = Sprites.labels(np.array([0, 1295]))
    expected = Sprites(LPC).render(labels)
    if kind == "file":
        url = LPC.resolve().as_uri()
        assert np.array_equal(Sprites(url).render(labels), expected)
        monkeypatch.setattr("pyro_dsae.datasets.sprites.DEFAULT_SOURCE", url)
        assert np.array_equal(Sprites().render(labels), expected)
        return

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=LPC)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            assert np.array_equal(Sprites(url).render(labels), expected)
            with pytest.raises(DataError, match=r"cannot download this sheet \(HTTP 404\)"):
                Sprites(f"{url}/nowhere")
        finally:
            server.shutdown()
            thread.join()


@needs_sheets
def test_prepared_sprites_carry_licence_and_attribution(tmp_path):
    path = prepare("sprites", tmp_path / "sprites.h5", source=LPC, characters=4)
    with SequenceFile.open(path) as data:
        assert data.attrs["licence"] == "CC-BY-SA-3.0 OR GPL-3.0"
        assert "Johannes Sjölund" in data.attrs["attribution"]
        assert str(LPC) not in str(data.attrs)
        labels = data.labels(FACTORS)
        assert np.array_equal(renderer(data).render(labels), Sprites(LPC).render(labels))


def test_sprites_need_exactly_25_sheets():
    assert len(SHEETS) == len(set(SHEETS.values())) == 25


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"body/0.png: cannot read this sheet .*--source must be a folder"),
        (b"<html>", r"body/0.png: not a PNG file; get body/0.png again from https://raw"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 64, 32), "64 x 32 pixels, expected"),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 832, 1344),
            r"sha256 is [0-9a-f]{64}, expected 27d1ac78",
        ),
    ],
)
def test_a_wrong_sheet_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "body").mkdir()
        (tmp_path / "body/0.png").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        Sprites(tmp_path)
    assert one_line(error)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ftp://localhost/x", "cannot read ftp:// URLs; use http, https, file or a folder"),
        ("file:///nowhere-at-all", "cannot download this sheet"),
        ("http://127.0.0.1:9", "check the connection"),
    ],
)
def test_a_wrong_url_is_refused(source, message, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match=message):
        Sprites(source)


# Toy sprites, and what both have in common


def test_toy_shows_every_part_in_every_frame(toy):
    assert toy.parts.shape == (9, 8, 64, 64)
    for part in range(1, 6):
        assert (toy.parts == part).sum(axis=(2, 3)).min() >= 38


def test_toy_motions_differ(toy):
    assert len({motion.tobytes() for motion in toy.parts}) == 9
    for a in range(9):
        for b in range(a):
            assert (toy.parts[a] != toy.parts[b]).sum() > 100
    assert np.array_equal(toy.parts[1::3], toy.parts[2::3, :, :, ::-1])  # left mirrors right


def test_toy_render_changes_only_the_part_of_the_factor(toy):
    base = np.array([[0, 0, 0, 0, 1, 2]])
    for column, part in enumerate((1, 2, 3, 4)):
        seen = {toy.render(base).tobytes()}
        for value in range(1, 6):
            labels = base.copy()
            labels[0, column] = value
            frames = toy.render(labels)
            changed = (frames != toy.render(base)).any(axis=-1)[0]
            assert np.array_equal(changed, toy.parts[5] == part)
            seen.add(frames.tobytes())
        assert len(seen) == 6


def test_toy_has_the_factors_of_sprites():
    def facts(cls):
        return [(f.name, f.role, len(f.classes)) for f in cls.factors]

    assert facts(ToySprites) == facts(Sprites)
    assert tuple(f.name for f in ToySprites.factors) == FACTORS


@pytest.mark.parametrize("cls", SOURCES.values(), ids=list(SOURCES))
@pytest.mark.parametrize("share", [None, 0, 0.1, 0.5, 1])
def test_split_shares_no_character(cls, share):
    count = cls.count("static")
    characters = None if share is None else max(2, round(share * count))
    parts = cls.split(characters)
    full = cls.split()
    train, test = parts["train"], parts["test"]
    assert not set(train) & set(test)
    assert min(len(train), len(test)) >= 1
    assert len(train) + len(test) == (characters or count)
    assert np.array_equal(train, full["train"][: len(train)])
    assert np.array_equal(test, full["test"][: len(test)])


def test_split_is_the_published_one():
    parts = Sprites.split()
    assert (len(parts["train"]), len(parts["test"])) == (1000, 296)
    assert parts["train"][:10].tolist() == [1116, 1135, 17, 469, 1293, 491, 869, 961, 91, 793]


def test_labels_index_characters_and_motions():
    labels = Sprites.labels(np.array([17, 1295]))
    assert labels.shape == (18, 6)
    assert Sprites.character(labels).tolist() == [17] * 9 + [1295] * 9
    assert Sprites.motion(labels).tolist() == [*range(9)] * 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 0, 6, 0, 0, 0]], "topwear = 6 is out of range, expected 0 to 5"),
        ([[0, 0, 0, 0, 0, -1]], "direction = -1 is out of range, expected 0 to 2"),
        ([[0, 0, 0]], r"shape \(1, 3\), expected \(N, 6\)"),
        ([[0.5] * 6], "labels are float64, expected integers"),
    ],
)
def test_render_refuses_labels(toy, labels, message):
    with pytest.raises(DataError, match=message):
        toy.render(np.array(labels))


# prepare


def test_prepare_round_trip(toy, toy_file):
    with SequenceFile.open(toy_file) as data:
        assert data.name == "toy-sprites"
        assert len(data) == 72
        assert data.factors == ToySprites.factors
        assert data.frame_shape == (3, 64, 64)
        assert (data.lengths == 8).all()
        assert data.splits == {"official": ("train", "test")}
        labels = data.labels(FACTORS)
        indices = np.array([70, 0, 33])
        frames = data.read(indices)
        assert frames.dtype == np.uint8
        assert np.array_equal(frames, toy.render(labels[indices]))
        assert np.array_equal(data.groups, toy.character(labels))
        assert data.ids == toy.ids(labels)
        assert data.ids[0] == "char1116-walk-front"
        train, test = data.split("train"), data.split("test")
        assert (len(train), len(test)) == (54, 18)
        assert not set(data.groups[train]) & set(data.groups[test])
        data.verify()


def test_prepare_twice_gives_the_same_content(toy_file, tmp_path):
    again = prepare("toy-sprites", tmp_path / "again.h5", characters=8)
    other = prepare("toy-sprites", tmp_path / "other.h5", characters=7)
    hashes = []
    for path in (toy_file, again, other):
        with SequenceFile.open(path) as data:
            hashes.append(data.content_sha256)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "spirtes"}, "no source is named 'spirtes'; the sources are sprites, toy-sprites"),
        ({"characters": 1}, "characters = 1 is out of range, expected 2 to 1296"),
        ({"characters": 1297}, "characters = 1297 is out of range"),
        ({"source": "folder"}, "toy-sprites takes no option 'source'; its options are characters$"),
        ({"name": "moving-shapes", "frames": 9}, "takes no option 'frames'; .* characters, steps,"),
        ({"name": "moving-shapes", "steps": 1}, "steps = 1 is out of range, expected 3 to 1000"),
    ],
)
def test_prepare_refuses(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        prepare(**({"name": "toy-sprites", "out": tmp_path / "x.h5"} | arguments))
    assert not list(tmp_path.iterdir())


def test_prepare_refuses_an_existing_output(tmp_path):
    out = tmp_path / "x.h5"
    out.write_text("mine")
    with pytest.raises(DataError, match="exists already; give another name or --overwrite"):
        prepare("toy-sprites", out, characters=2)
    assert out.read_text() == "mine"
    prepare("toy-sprites", out, characters=2, overwrite=True)
    with SequenceFile.open(out) as data:
        assert len(data) == 18
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_prepare_refuses_a_folder_and_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="is a folder, expected the name of a file"):
        prepare("toy-sprites", tmp_path, overwrite=True)
    with pytest.raises(DataError, match="does not exist; create it first"):
        prepare("toy-sprites", tmp_path / "no" / "x.h5")


# The renderer of a file


@pytest.fixture(scope="module")
def sprites_file(tmp_path_factory):
    """A file named sprites, whose frames no source of this package draws."""
    labels = Sprites.labels(np.array([1116, 1135]))
    frames = np.random.default_rng(0).integers(0, 256, (18, 8, 16, 16, 3), np.uint8)
    arguments = video(n=18, name="sprites", blocks=[frames], labels=labels, factors=Sprites.factors)
    return write(tmp_path_factory.mktemp("sprites") / "sprites.h5", **arguments)


@pytest.fixture(scope="module")
def shapes_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "shapes.h5"
    return prepare("moving-shapes", path, characters=2, size=32, motions=9, seed=1)


@pytest.mark.parametrize("name", ["toy_file", "sprites_file", "shapes_file"])
def test_renderer_gives_the_sequences_of_its_file(name, request):
    with SequenceFile.open(request.getfixturevalue(name)) as data:
        source = renderer(data)
        names = [factor.name for factor in source.factors]
        labels = data.labels(names)
        assert np.array_equal(source.render(labels), data.read(np.arange(len(data))))
        assert source.render(labels[:0]).shape == (0, *data.read([0]).shape[1:])
        roles = [factor.role for factor in source.factors]
        assert roles == sorted(roles, reverse=True)  # static before dynamic
        last = source.factors[-1]
        message = f"{last.name} = {len(last.classes)} is out of range, expected 0 to"
        labels[0, -1] = len(last.classes)
        with pytest.raises(DataError, match=message):
            source.render(labels)


@pytest.mark.parametrize("name", ["toy_file", "sprites_file"])
def test_renderer_gives_swaps_of_two_sequences(name, request):
    with SequenceFile.open(request.getfixturevalue(name)) as data:
        labels = data.labels(FACTORS)
        swapped = np.concatenate([labels[9:10, :4], labels[2:3, 4:]], axis=1)
        assert np.array_equal(renderer(data).render(swapped), data.read([11]))


@pytest.mark.parametrize("name", ["toy_file", "shapes_file", "sprites_file"])
def test_renderer_lists_once_all_that_it_can_render(name, request):
    with SequenceFile.open(request.getfixturevalue(name)) as data:
        source = renderer(data)
        labels, held = source.combinations(), data.labels([f.name for f in source.factors])
        sizes = [len(factor.classes) for factor in source.factors]
        assert len(labels) == (len(data) if name == "sprites_file" else np.prod(sizes))
        rows = {tuple(row) for row in labels.tolist()}
        assert len(rows) == len(labels) and {tuple(row) for row in held.tolist()} <= rows
        assert len(source.render(labels[[0, -1]])) == 2


def test_renderer_refuses_a_recipe_without_an_option(shapes_file, tmp_path):
    path = shutil.copy(shapes_file, tmp_path / "x.h5")
    for recipe, message in (("{}", "'steps'"), ('{"steps": 1}', "'shortest'")):
        with h5py.File(path, "r+") as file:
            file.attrs["recipe"] = recipe
        with SequenceFile.open(path) as data:
            with pytest.raises(DataError, match=f"its recipe is damaged .{message}") as error:
                renderer(data)
        assert one_line(error)


def test_a_file_of_ones_own_that_is_named_as_a_source_is_not_rendered(tmp_path):
    x = np.ones((2, 3, 16, 16, 1), np.uint8)
    np.savez(tmp_path / "moving-shapes.npz", x=x)
    out = prepare(
        "arrays", tmp_path / "x.h5", source=str(tmp_path / "moving-shapes.npz"), test_fraction=0.5
    )
    with SequenceFile.open(out) as file, pytest.raises(NotRenderableError, match="cannot be rend"):
        renderer(file)


def test_renderer_names_a_combination_that_the_file_lacks(sprites_file):
    message = "sprites.h5: holds no sequence of body light, bottomwear white pants, topwear plate"
    with SequenceFile.open(sprites_file) as data:
        with pytest.raises(DataError, match=message) as error:
            renderer(data).render(np.array([[0, 0, 3, 0, 0, 0]]))
        assert one_line(error)


def test_renderer_refuses_data_that_no_source_renders(damaged, tmp_path):
    with SequenceFile.open(write(tmp_path / "own.h5", **video())) as data:
        with pytest.raises(DataError, match="exact scores need a source .*: sprites, toy-sprites"):
            renderer(data)
    with h5py.File(damaged, "r+") as file:
        file["x"][0] = ~file["x"][0]
    with SequenceFile.open(damaged) as data:
        with pytest.raises(DataError, match="toy-sprites is drawn otherwise by this release"):
            renderer(data)


# The writer


def test_write_keeps_lengths_and_series(tmp_path):
    series = np.ones((2, 5, 3), np.float32)
    series[0, 2:] = 0
    arguments = video(
        n=2,
        blocks=[series],
        lengths=np.array([2, 5]),
        labels=np.array([[0.5], [2.0]]),
        factors=[Factor("speed", "dynamic")],
    )
    with SequenceFile.open(write(tmp_path / "x.h5", **arguments)) as data:
        assert data.frame_shape == (3,)
        assert data.lengths.tolist() == [2, 5]
        assert np.array_equal(data.read([1, 0]), series[::-1])
        assert np.array_equal(data.labels(["speed"]), np.float32([[0.5], [2.0]]))
        data.verify()


def gaps(**changes):
    """Two series of 4 steps of 3 channels, of which the first ends after 2; some values missing."""
    mask = np.ones((2, 4, 3), bool)
    mask[0, 2:] = mask[0, 0, 1] = mask[1, 2] = False
    x = np.where(mask, 7, 0).astype(np.float32)
    standard = Standard(("a", "b", "c"), np.float32([7, 5, 3]), np.float32([1, 2, 4]))
    given = {"blocks": [x], "mask": mask, "standard": standard, "lengths": np.array([2, 4])}
    return video(n=2, **{**given, "labels": np.empty((2, 0)), "factors": (), **changes})


def test_a_series_is_read_by_its_standard_and_zero_where_it_is_masked(tmp_path):
    with SequenceFile.open(write(tmp_path / "x.h5", **gaps())) as data:
        data.verify()
        found = data.take(np.array([1, 0]))
        mask = gaps()["mask"][::-1]
        assert np.array_equal(found.mask, mask)
        assert np.array_equal(found.x, np.where(mask, np.float32([0, 1, 1]), 0))
        assert found.origin["channels"] == ["a", "b", "c"]
        other = Standard(data.standard.channels, np.float32([0, 0, 0]), np.float32([7, 7, 7]))
        assert np.array_equal(data.take(np.array([0]), standard=other).x[0], mask[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mask": np.ones((2, 4, 2), bool)},
            r"/mask is bool \(2, 4, 2\), expected bool \(2, 4\) or",
        ),
        ({"mask": np.ones((2, 4, 3), bool)}, "sequence 0 has a length of 2, but .* step is 4"),
        ({"lengths": np.array([2, 3])}, "sequence 1 has a length of 3, but .* step is 4"),
        ({"blocks": [np.ones((2, 4, 3), np.float32)], "lengths": None}, "length of 4, .* is 2"),
        (
            {"blocks": [np.float32(np.arange(4) < [[2], [4]])[..., None].repeat(3, 2)]},
            "values of sequence 0 are not zero where it is masked",
        ),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "x.h5", **gaps(**changes))
    assert list(tmp_path.iterdir()) == []


def posed(tmp_path, labels):
    """Write 4 sequences of 2 of 3 steps, with a pose each step."""
    frames = np.concatenate(video()["blocks"])
    frames[:, 2] = 0
    arguments = {
        "blocks": [frames],
        "lengths": np.full(4, 2),
        "step_factors": [Factor("pose", "dynamic", ("up", "down"))],
        "step_labels": labels,
    }
    return write(tmp_path / "x.h5", **video(**arguments))


def test_sequences_of_a_file_look_alike_by_their_static_factors(toy_file, tmp_path):
    with SequenceFile.open(toy_file) as data:
        part = data.sequences("train")
        characters = data.labels(["body", "bottomwear", "topwear", "hair"])[data.split("train")]
        same = (characters[:, None] == characters).all(axis=-1)
        assert ((part.alike[:, None] == part.alike) == same).all()
    factors = [Factor("kind", "static", ("a", "b")), Factor("act", "dynamic", ("c", "d"))]
    labels = np.array([[0, 0], [1, 1], [-1, 0], [1, 0]])
    with SequenceFile.open(
        write(tmp_path / "a.h5", **video(factors=factors, labels=labels))
    ) as data:
        assert data.take(np.arange(4)).alike.tolist() == [1, 2, -1, 2]
    without = video(factors=factors[1:], labels=labels[:, 1:], groups=[5, 6, 6, 5])
    with SequenceFile.open(write(tmp_path / "b.h5", **without)) as data:
        assert data.take(np.arange(4)).alike.tolist() == [5, 6, 6, 5]


def test_write_keeps_labels_of_each_step(tmp_path):
    labels = np.array([[[1], [0], [0]]] * 3 + [[[0], [1], [0]]])
    with SequenceFile.open(posed(tmp_path, labels)) as data:
        assert np.array_equal(data.step_labels(["pose"]), labels)
        assert data.step_labels(["pose"]).dtype == np.int16
        assert [factor.name for factor in data.factors] == ["kind"]
        assert [factor.name for factor in data.step_factors] == ["pose"]
        data.verify()
        content = data.content_sha256
    (tmp_path / "x.h5").unlink()
    with SequenceFile.open(posed(tmp_path, labels[::-1])) as data:
        assert data.content_sha256 != content


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((4, 2, 1)), r"step labels have shape \(4, 2, 1\), expected \(4, 3, 1\)"),
        (None, r"step labels have shape \(\), expected \(4, 3, 1\)"),
        (np.ones((4, 3, 1)), "step labels after a length are not zero"),
        (np.array([[[2], [2], [0]]] * 4), "pose of sequence 0 is 2, expected a class from 0 to 1"),
    ],
)
def test_write_refuses_labels_of_each_step(tmp_path, labels, message):
    with pytest.raises(DataError, match=message) as error:
        posed(tmp_path, labels)
    assert one_line(error)
    assert not list(tmp_path.iterdir())


def test_content_hash_covers_frames_and_labels_not_blocks(tmp_path):
    def content(file, **changes):
        with SequenceFile.open(write(tmp_path / file, **video(**changes))) as data:
            return data.content_sha256

    frames = np.concatenate(video()["blocks"])
    base = content("a.h5")
    assert base == content("b.h5", blocks=[frames], name="another")
    assert base != content("c.h5", blocks=[frames ^ 1])
    assert base != content("d.h5", labels=np.array([[0], [1], [3], [2]]))


def failing_blocks():
    yield from video()["blocks"][:1]
    raise KeyboardInterrupt


FRAMES = np.ones((4, 3, 4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([[0], [1], [2], [4]])}, "kind of sequence 3 is 4, expected a class"),
        ({"labels": np.array([[0], [np.nan], [2], [3]])}, "kind of sequence 1 is NaN"),
        ({"labels": np.zeros((3, 1))}, r"labels have shape \(3, 1\), expected \(4, 1\)"),
        ({"ids": ["a", "b", "a", "c"]}, "id 'a' occurs twice"),
        ({"groups": np.zeros(3)}, r"/group has shape \(3,\), expected \(4,\)"),
        ({"splits": {"official": {"train": [0, 4]}}}, "official/train holds 4, expected 0 to 3"),
        ({"splits": {"official": {"train": [1, 0]}}}, "official/train is not sorted"),
        ({"splits": {"o": {"a": [0, 1], "b": [1]}}}, "o/b shares sequence 1 with a"),
        ({"splits": {"o": {"a": []}}}, "o/a is int64 .* expected indices"),
        ({"blocks": [FRAMES[:3]]}, "got 3 sequences for 4 ids"),
        ({"blocks": []}, "got 0 sequences for 4 ids"),
        ({"blocks": [FRAMES, FRAMES]}, "a block of sequences is uint8 .* at 4"),
        ({"blocks": [FRAMES[:1], FRAMES[:, :2]]}, "a block of sequences is uint8"),
        ({"blocks": [FRAMES.astype(float)]}, "sequences are float64"),
        ({"blocks": [np.full((4, 3, 2), np.nan, np.float32)]}, "hold NaN or infinite"),
        ({"blocks": [FRAMES], "lengths": np.array([3, 3, 3, 4])}, "length 4 is out of range"),
        ({"blocks": [FRAMES], "lengths": np.array([3, 3, 3, 2])}, "after a length of 2 are not"),
    ],
)
def test_write_refuses_and_leaves_nothing(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as error:
        write(tmp_path / "x.h5", **video(**changes))
    assert one_line(error)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_old_file(tmp_path):
    """In a process of its own: HDF5 is known to crash at exit after a failed write."""
    program = (
        "import resource; from pyro_dsae.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY)); main()"
    )
    path = tmp_path / "toy.h5"
    path.write_text("precious")
    command = [sys.executable, "-c", program, "prepare", "toy-sprites", path, "--overwrite"]
    result = subprocess.run(
        [*command, "--characters", "60"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.stderr == (
        f"Error: {path}: cannot write (File too large); check the free space and permissions\n"
    )
    assert result.returncode == 1
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = write(tmp_path / "x.h5", **video())
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write(path, **video(blocks=failing_blocks()), overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a/b", "static"), "factor name 'a/b'"),
        (("a", "moving"), "role is 'moving', expected 'static' or 'dynamic'"),
        (("a", "static", ("x", "x")), "class names repeat"),
    ],
)
def test_factor_refuses(arguments, message):
    with pytest.raises(DataError, match=message):
        Factor(*arguments)


# The reader


def replace(file, key, value):
    attributes = dict(file[key].attrs)
    del file[key]
    file[key] = value
    file[key].attrs.update(attributes)


DAMAGE = {
    "format": (lambda f: f.attrs.update(format="other"), "format is 'other', expected"),
    "no format": (lambda f: f.attrs.pop("format"), "format is None, expected 'pyro-dsae'"),
    "schema": (lambda f: f.attrs.update(schema_version=2), "schema version is 2, expected 1"),
    "attribute": (lambda f: f.attrs.pop("licence"), "has no attribute 'licence'"),
    "layout": (lambda f: f.attrs.update(layout="NTCHW"), "layout 'NTCHW', expected"),
    "no x": (lambda f: f.pop("x"), "has no /x"),
    "x type": (lambda f: replace(f, "x", np.zeros((72, 8, 4, 4, 3))), "/x is float64"),
    "split range": (
        lambda f: replace(f, "splits/official/test", [3, 72]),
        "official/test holds 72, expected 0 to 71",
    ),
    "split order": (lambda f: replace(f, "splits/official/test", [70, 60]), "is not sorted"),
    "split overlap": (lambda f: replace(f, "splits/official/test", [0, 70]), "shares sequence 0"),
    "label range": (
        lambda f: replace(f, "factors/hair", np.full(72, 6, np.int16)),
        "factor hair of sequence 0 is 6, expected a class from 0 to 5",
    ),
    "label NaN": (
        lambda f: replace(f, "factors/hair", np.full(72, np.nan, np.float32)),
        "factor hair of sequence 0 is NaN",
    ),
    "label shape": (lambda f: replace(f, "factors/hair", [0, 1]), r"/factors/hair has shape \(2,"),
    "classes": (lambda f: f["factors/hair"].attrs.update(classes="{"), "is damaged"),
    "length": (lambda f: f["length"].write_direct(np.full(72, 9, np.int32)), "length 9 is out"),
    "group": (lambda f: replace(f, "group", [1]), r"/group has shape \(1,\), expected \(72,\)"),
    "ids": (lambda f: f["id"].__setitem__(1, f["id"][0]), "occurs twice"),
    "recipe": (lambda f: f.attrs.update(recipe="[1]"), "is damaged"),
    "mask": (lambda f: f.__setitem__("mask", [True]), "/mask is bool"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_open_refuses_invalid_content(damaged, kind):
    change, message = DAMAGE[kind]
    with h5py.File(damaged, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=message) as error:
        SequenceFile.open(damaged)
    assert one_line(error) and str(error.value).startswith(str(damaged))
    damaged.unlink()


def test_open_refuses_what_is_not_a_whole_file(damaged, tmp_path):
    content = damaged.read_bytes()
    for size in (0, len(content) // 2, len(content) - 1):
        damaged.write_bytes(content[:size])
        with pytest.raises(DataError, match=f"is truncated at {size} bytes; copy it") as error:
            SequenceFile.open(damaged)
        assert one_line(error)
    damaged.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not an HDF5 file; expected one made by `dsae prepare`"):
        SequenceFile.open(damaged)
    with pytest.raises(DataError, match="no such file; make one with `dsae prepare`"):
        SequenceFile.open(tmp_path / "missing.h5")
    with pytest.raises(DataError, match="is a folder"):
        SequenceFile.open(tmp_path)


def test_reading_nan_is_refused(tmp_path):
    arguments = video(blocks=[np.ones((4, 3, 2), np.float32)])
    path = write(tmp_path / "x.h5", **arguments)
    with h5py.File(path, "r+") as file:
        file["x"][2, 1, 0] = np.nan
    with SequenceFile.open(path) as data:
        assert data.read([0, 1, 3]).shape == (3, 3, 2)
        with pytest.raises(DataError, match=r"sequence 2 \(s2\) holds NaN"):
            data.read([2])


def test_verify_sees_a_changed_pixel(damaged):
    with h5py.File(damaged, "r+") as file:
        file["x"][3, 0, 0, 0, 0] ^= 1
    with (
        SequenceFile.open(damaged) as data,
        pytest.raises(DataError, match="content sha256 is .*, expected"),
    ):
        data.verify()


def test_a_damaged_chunk_is_named(damaged):
    with h5py.File(damaged, "r") as file:
        chunk = file["x"].id.get_chunk_info(5)
    with damaged.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with SequenceFile.open(damaged) as data, pytest.raises(DataError, match="is damaged"):
        data.read(np.arange(72))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda d: d.read([72]), "sequence 72 does not exist, expected 0 to 71"),
        (lambda d: d.read([-1]), "sequence -1 does not exist"),
        (lambda d: d.read([0.5]), "expected integers"),
        (lambda d: d.labels(["hat"]), "has no factor 'hat'; its factors are body, bottomwear"),
        (lambda d: d.split("valid"), "has no part 'valid'; its parts are train, test"),
        (lambda d: d.split("train", "random"), "has no split 'random'; its splits are official"),
    ],
)
def test_reader_names_what_does_not_exist(toy_file, ask, message):
    with SequenceFile.open(toy_file) as data, pytest.raises(DataError, match=message):
        ask(data)


def test_reading_nothing_keeps_the_shape(toy_file):
    with SequenceFile.open(toy_file) as data:
        assert data.read([]).shape == (0, 8, 64, 64, 3)
        assert data.labels([]).shape == (72, 0)


def test_datasets_does_not_import_torch():
    folder = Path(sys.modules["pyro_dsae.datasets"].__file__).parent
    imported = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    third_party = imported - sys.stdlib_module_names
    assert third_party == {"numpy", "h5py", "PIL", "av", "pyro_dsae"}
