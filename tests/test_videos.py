"""Videos and folders of pictures of a user's own."""

import builtins
import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from drawn_videos import encode, numbered, write_pictures, write_video
from pyro_dsae.datasets import DataError, OptionError, SequenceFile, prepare
from pyro_dsae.datasets.footage import COLOURS, FrameFormat, VideoFile
from pyro_dsae.datasets.skipped import NAMED, Skipped


def prepared(tmp_path, **options):
    out = tmp_path / "x.h5"
    options = {"source": tmp_path / "videos", "size": 16, **options}
    return SequenceFile.open(prepare("videos", out, overwrite=True, **options))


def table(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def colours(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


# Frames


@pytest.mark.parametrize("size", [(16, 48), (256, 16), (64, 64)])
@pytest.mark.parametrize("colour", COLOURS)
def test_frames_have_the_size_and_the_channels(size, colour):
    format = FrameFormat(size, "centre", colour)
    image = Image.fromarray(colours(1, 90, 120)[0]).convert(format.mode)
    frame = format(image)
    assert frame.shape == format.shape == (*size, 1 + list(COLOURS).index(colour))
    assert frame.dtype == np.uint8


def test_frames_of_the_right_size_are_kept_to_the_pixel():
    pixels = colours(1, 32, 16)[0]
    assert np.array_equal(FrameFormat((32, 16), "centre", "rgb")(Image.fromarray(pixels)), pixels)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32)])
def test_the_centre_is_cut_out_or_all_is_squeezed(height, width):
    """Black, but for a white square in the middle that the crop is exactly."""
    pixels = np.zeros((height, width), np.uint8)
    top, left = (height - 32) // 2, (width - 32) // 2
    pixels[top : top + 32, left : left + 32] = 255
    image = Image.fromarray(pixels)
    centre = FrameFormat((16, 16), "centre", "grey")(image)
    assert (centre[1:-1, 1:-1] == 255).all() and centre.min() > 200  # its edge blends in
    squeezed = FrameFormat((16, 16), "none", "grey")(image)
    assert squeezed.mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize("grey", [True, False])
def test_a_lossless_video_gives_its_pixels(grey):
    frames = numbered(5) if grey else colours(5, 30, 40)
    video = VideoFile("x", lambda: io.BytesIO(encode(frames)))
    mode = "L" if grey else "RGB"
    assert np.array_equal([np.asarray(image) for image in video.frames(mode)], frames)
    assert video.stated == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 40}, "size = 40x40: each side must be a multiple of 16 from 16 to 256"),
        ({"size": (64, 272)}, "size = 64x272"),
        ({"crop": "left"}, "crop = 'left' is unknown, expected centre, none"),
        ({"colour": "blue"}, "colour = 'blue' is unknown, expected grey, "),
        ({"frames": 0}, "frames = 0 is out of range"),
        ({"stride": 0}, "stride = 0 is out of range"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0 is out of range"),
        ({"seed": -1}, "seed = -1 is out of range"),
        ({"static": ["a"], "dynamic": ["a"]}, "factor 'a' is named static and dynamic"),
        ({"table": "t.csv", "folders": "a"}, "table and folders both"),
        ({"steps": 3}, "videos takes no option 'steps'; its options are source, table"),
        ({"characters": 3}, "videos takes no option 'characters'"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        prepared(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_the_folder_has_to_be_named(tmp_path):
    with pytest.raises(OptionError, match="videos needs the option 'source'"):
        prepare("videos", tmp_path / "x.h5")


# Windows


def test_videos_without_labels_are_cut_into_windows_that_share_a_group(tmp_path):
    lengths = {"a.avi": 21, "b.avi": 5, "c10.avi": 8, "c9.avi": 9}
    for name, length in lengths.items():
        write_video(tmp_path / "videos" / name, numbered(length))
    with prepared(tmp_path, frames=8, stride=4, colour="grey") as data:
        assert data.ids == [
            *(f"a.avi:{first}-{first + 7}" for first in (1, 5, 9, 13)),
            "b.avi:1-5",
            "c9.avi:1-8",  # by number
            "c10.avi:1-8",
        ]
        assert data.groups.tolist() == [0, 0, 0, 0, 1, 2, 3]
        assert data.lengths.tolist() == [8, 8, 8, 8, 5, 8, 8]
        assert data.factors == () and data.frame_shape == (1, 16, 16)
        train, test = data.split("train"), data.split("test")
        assert len(train) + len(test) == 7
        assert len(set(data.groups[test])) == 1
        assert not set(data.groups[train]) & set(data.groups[test])
        corner = data.read([3])[0, :, 0, 0, 0]
        assert corner.tolist() == list(range(24, 40, 2))
        data.verify()
        content, split = data.content_sha256, test.tolist()
    with prepared(tmp_path, frames=8, stride=4, colour="grey") as data:
        assert (data.content_sha256, data.split("test").tolist()) == (content, split)
    with prepared(tmp_path, frames=64) as data:
        assert data.lengths.tolist() == [21, 5, 9, 8]
        assert data.read([0]).shape == (1, 21, 16, 16, 3)  # no longer than the longest


def test_progress_rises_to_the_end(tmp_path):
    for n in range(3):
        write_video(tmp_path / "videos" / f"{n}.avi", numbered(8))
    done = []
    prepared(tmp_path, on_progress=done.append).close()
    assert done == sorted(done) and len(set(done)) >= 3 * 8
    assert 0 < done[0] < 0.1 and done[-1] == 1


def test_the_seed_draws_the_test_part(tmp_path):
    for n in range(8):
        write_video(tmp_path / "videos" / f"{n}.avi", numbered(2))
    drawn = []
    for seed in range(6):
        with prepared(tmp_path, seed=seed, test_fraction=0.5) as data:
            drawn.append(tuple(data.split("test")))
    assert {len(rows) for rows in drawn} == {4} and len(set(drawn)) > 1
    with prepared(tmp_path, test_fraction=0) as data:
        assert data.splits == {"official": ("train",)}


def test_pictures_are_the_frames_in_the_order_of_their_numbers(tmp_path):
    frames = numbered(12, 16, 16)
    for name in ("a", "b"):
        write_pictures(tmp_path / "videos" / name, frames)
    with prepared(tmp_path, colour="grey") as data:
        assert data.ids == ["a:1-12", "b:1-12"]
        assert np.array_equal(data.read([0])[0, ..., 0], frames)


# What is said of videos


def test_folders_name_factors_and_the_split(tmp_path):
    for place in ("train/ann/walk", "train/ann/run", "test/bob/run"):
        write_video(tmp_path / "videos" / place / "1.avi", numbered(4))
    with prepared(tmp_path, folders="split,who,action", dynamic=["action"]) as data:
        assert [(f.name, f.role, f.classes) for f in data.factors] == [
            ("who", "static", ("ann", "bob")),
            ("action", "dynamic", ("run", "walk")),
        ]
        assert [data.ids[n] for n in data.split("test")] == ["test/bob/run/1.avi:1-4"]
        assert data.labels(["who", "action"]).tolist() == [[1, 0], [0, 0], [0, 1]]
    with pytest.raises(DataError, match="lies in 3 folders, but 1 are named: who"):
        prepared(tmp_path, folders="who")


def test_a_table_names_ranges_groups_and_unknown_classes(tmp_path):
    write_video(tmp_path / "videos" / "long.avi", numbered(30))
    write_pictures(tmp_path / "videos" / "pictures", numbered(6))
    rows = table(
        tmp_path,
        "path,first,last,group,split,who,action\n"
        "long.avi,11,20,1,train,2,walk\nlong.avi,1,4,1,train,2,\nlong.avi,21,30,2,test,2,run\n"
        "pictures,,,3,,10,run\n",
    )
    with prepared(tmp_path, table=rows, dynamic=["action"], frames=5, colour="grey") as data:
        assert data.ids == [
            "long.avi#11-20:11-15",
            "long.avi#11-20:16-20",
            "long.avi#1-4:1-4",
            "long.avi#21-30:21-25",
            "long.avi#21-30:26-30",
            "pictures:1-5",
        ]
        assert data.read([0])[0, 0, 0, 0, 0] == 20
        assert data.groups.tolist() == [0, 0, 0, 1, 1, 2]
        assert data.factors[0].classes == ("2", "10")  # by number
        assert data.labels(["action"])[:, 0].tolist() == [1, 1, -1, 0, 0, 0]
        assert data.split("train").tolist() == [0, 1, 2] and data.split("test").tolist() == [3, 4]
        assert data.splits == {"official": ("train", "test")}
        (left,) = data.recipe["skipped"].items()
        assert left == (
            "in no part, as its split is empty",
            {"count": 1, "names": ["pictures:1-5"]},
        )


def test_hidden_files_are_no_footage(tmp_path):
    write_pictures(tmp_path / "videos" / "a", numbered(4))
    write_video(tmp_path / "videos" / "b.avi", numbered(4))
    for name in ("a/._frame1.png", "._b.avi"):
        (tmp_path / "videos" / name).write_bytes(b"attributes")
    with prepared(tmp_path, frames=4) as data:
        assert data.ids == ["a:1-4", "b.avi:1-4"] and not data.recipe["skipped"]


def test_linked_folders_are_footage_and_hidden_ones_are_none(tmp_path):
    write_pictures(tmp_path / "elsewhere", numbered(4))
    write_pictures(tmp_path / "videos" / ".trash" / "a", numbered(4))
    write_pictures(tmp_path / "videos" / "b", numbered(4))
    (tmp_path / "videos" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "videos" / "b" / "up").symlink_to(tmp_path / "videos")
    for name, again in (("d", "elsewhere"), ("e", "videos/b")):  # what is there already
        (tmp_path / "videos" / name).symlink_to(tmp_path / again)
    with prepared(tmp_path, frames=4) as data:
        assert data.ids == ["b:1-4", "c:1-4"]


def test_a_name_that_is_no_text_is_refused(tmp_path):
    write_pictures(tmp_path / "videos" / "caf\udce9", numbered(4))
    with pytest.raises(DataError, match="the name .* is no UTF-8; rename it"):
        prepared(tmp_path)


HEAD = "path,split,who"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its columns are none; expected path and other names"),
        ("file,who\na.avi,x", "its columns are file, who; expected path"),
        ("path,who,who\na.avi,x,y", "its columns are path, who, who; expected path"),
        (HEAD, "has no rows"),
        (f"{HEAD}\na.avi,train", "line 2: expected 3 values"),
        (f"{HEAD}\na.avi,train,x,y", "line 2: expected 3 values"),
        (f"{HEAD}\na.avi,train,x\nc.avi,test,y\nd.avi,test,y", "line 3: 'c.avi' is not in .*, and"),
        (f"{HEAD}\na.avi,training,x", "line 2: split is 'training', but must be one of: train, v"),
        (f"{HEAD}\na.avi,test,x", "videos: no sequence is for training; change the split"),
        (f"{HEAD}\na.avi,train,x\na.avi,train,x", "a.avi is in the table twice; name the frames"),
        (
            f"{HEAD},first,last\na.avi,train,x,1,2\na.avi,train,x,1,2",
            "a.avi#1-2: is in the table twice; leave one out",
        ),
        (
            f"{HEAD}\na.avi,train,x\n../videos/a.avi,test,x",
            "line 3: '../videos/a.avi' is 'a.avi' by another path; write it alike",
        ),
        (
            f"{HEAD},first,last\na.avi,train,x,1,2\na.avi,train,y,3,4",
            "a.avi has who 'x' and 'y', but a static factor does not change; use --dynamic who",
        ),
        (f"{HEAD},what\na.avi,train,x,\nb.avi,test,x,", "what is empty in every row; leave it out"),
        (f"{HEAD},first\na.avi,train,x,one", "line 2: first is 'one', but must be a whole number"),
        (f"{HEAD},first,last\na.avi,train,x,3,2", "line 2: first is 3, but last 2"),
        (
            f"{HEAD},group\na.avi,train,x,1\nb.avi,test,x,1",
            "b.avi: is for test, but others of its group '1' are for train",
        ),
        (
            f"{HEAD},first,last,group\na.avi,train,x,1,3,u\na.avi,train,x,1,1,u\na.avi,test,x,3,4,v",
            "a.avi#1-3 and a.avi#3-4 share frames, but are of two groups, 'u' and 'v'; give them",
        ),
        (f"{HEAD},first,last\na.avi,train,x,2,99", "a.avi, frames 2 to 99 of 4: cannot be decoded"),
        ("path\na.avi", "all sequences are of one group, 'a.avi', .* use --test-fraction 0"),
    ],
)
def test_a_wrong_table_is_one_line_and_leaves_nothing(tmp_path, text, message):
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / "videos" / name, numbered(4))
    rows = table(tmp_path, text)
    with pytest.raises(DataError, match=message) as error:
        prepared(tmp_path, table=rows)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "videos"]


def test_a_table_whose_train_part_is_damaged_leaves_nothing(tmp_path):
    write_video(tmp_path / "videos" / "a.avi", numbered(4))
    (tmp_path / "videos" / "b.avi").write_bytes(b"no video")
    rows = table(tmp_path, f"{HEAD}\na.avi,test,x\nb.avi,train,y")
    with pytest.raises(DataError, match="no usable sequence is for training; change the split"):
        prepared(tmp_path, table=rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "videos"]


def test_a_table_that_is_none_is_refused(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\0")
    for name in ("table.csv", "absent.csv"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as a table"):
            prepared(tmp_path, table=tmp_path / name)
    write_video(tmp_path / "videos" / "a.avi", numbered(4))
    with pytest.raises(DataError, match="no factor is named 'who'; there are: none"):
        prepared(tmp_path, static=["who"])


# Footage that cannot be used


def test_a_file_names_so_much_of_what_was_skipped_as_it_can_keep():
    skipped = Skipped()
    for n in range(1000):
        skipped.add(f"{n:0100d}", "too long")
        skipped.add(f"{n}", "short")
    table = skipped.table()
    assert [facts["count"] for facts in table.values()] == [1000, 1000]
    assert len(table["too long"]["names"]) == NAMED // 100 and not table["short"]["names"]


def test_damaged_footage_is_skipped_with_its_reason(tmp_path):
    videos = tmp_path / "videos"
    for name in ("good.avi", "good.mkv"):
        write_video(videos / name, numbered(6))
    content = encode(numbered(40), codec="mpeg4")
    (videos / "cut.avi").write_bytes(content[: len(content) * 17 // 20])
    (videos / "text.mp4").write_text("no video")
    (videos / "empty.mov").touch()
    write_pictures(videos / "sizes", [*numbered(2, 16, 16), *numbered(1, 32, 16)])
    write_pictures(videos / "broken", numbered(3))
    (videos / "broken" / "frame2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_pictures(videos / "deep", numbered(2).astype(np.uint16))
    with prepared(tmp_path, frames=4) as data:
        skipped = data.recipe["skipped"]
        kept = {name.partition(":")[0] for name in data.ids}
    assert kept == {"good.avi", "good.mkv", "cut.avi", "sizes", "broken"}
    (cut,) = [name for name in skipped["cannot be decoded"]["names"] if name.startswith("cut")]
    assert cut.startswith("cut.avi, frames after 3")
    assert skipped["frame2.png cannot be decoded"]["names"] == ["broken, frames after 1"]
    assert skipped["not as large as the frames before"]["names"] == ["sizes, frames after 2"]
    assert skipped["has more than 8 bits a channel"]["names"] == ["deep"]
    invalid = "cannot be decoded (Invalid data found when processing input)"
    assert set(skipped[invalid]["names"]) == {"text.mp4", "empty.mov"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such folder; expected one with videos"),
        ({}, "holds neither videos .* nor folders of pictures"),
        ({"a.avi": b""}, "holds no usable sequence .a.avi: cannot be decoded"),
        ({"a.txt": b"a"}, "holds neither videos"),
    ],
)
def test_a_folder_without_videos_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "videos").mkdir()
        for name, data in content.items():
            (tmp_path / "videos" / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        prepared(tmp_path)
    assert "\n" not in str(error.value) and not list(tmp_path.glob("*.h5*"))


def test_a_full_disk_leaves_nothing(tmp_path, little_space):
    write_pictures(tmp_path / "videos" / "a", [*numbered(10)])
    with pytest.raises(DataError, match="cannot keep frames beside it .File too large"):
        prepared(tmp_path, size=128)
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_videos_need_pyav(tmp_path, monkeypatch):
    write_video(tmp_path / "videos" / "a.avi", numbered(4))
    original = builtins.__import__

    def without_av(name, *arguments):
        if name == "av":
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(DataError, match="pip install av"):
        prepared(tmp_path)


def test_memory_holds_a_few_sequences_of_a_long_video(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_dsae.datasets.frame_store.BLOCK_BYTES", 200_000)
    write_video(tmp_path / "videos" / "a.avi", numbered(120).repeat(5, axis=0))
    tracemalloc.start()
    with prepared(tmp_path, size=64, test_fraction=0) as data:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_500_000 < 600 * 64 * 64 * 3 / 4 and len(data) == 37
