"""Series that are read: tables, arrays, MSD-Benchmark's files, and what packages carry."""

import json
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from pyro_dsae.cli.main import main
from pyro_dsae.datasets import DataError, OptionError, SequenceFile, msd, prepare

HEAD = "name,hour,site,mood,heat,wind\n"
TABLE = (
    HEAD
    + "\n".join(
        [
            "a,0,north,calm,1,10",
            "a,1,north,calm,,20",
            "a,2,north,wild,3,NA",
            "b,5,south,calm,5,50",
            "b,6,south,wild,,",
            "c,0,north,wild,7,70",
            "c,2.5,north,wild,9,90",
            "c,3,north,calm,,",
        ]
    )
    + "\n"
)
NAMED = {"sequence_id": "name", "time": "hour", "static": ["site"], "dynamic": ["mood"]}


def from_table(tmp_path, text=TABLE, **options):
    source = tmp_path / "mine.csv"
    source.write_text(text)
    out = tmp_path / "mine.h5"
    prepare("table", out, source=str(source), **{**NAMED, "test_fraction": 0.34, **options})
    return SequenceFile.open(out)


def test_a_table_becomes_ragged_series_with_masks(tmp_path):
    with from_table(tmp_path) as data:
        data.verify()
        assert data.name == "mine" and data.ids == ["a", "b", "c"]
        assert data.frame_shape == (2,) and data.standard.channels == ("heat", "wind")
        assert data.lengths.tolist() == [3, 1, 2]  # without rows at the end that have no value
        assert data.read([0])[0].tolist() == [[1, 10], [0, 20], [3, 0]]
        assert data.mask(np.array([0, 1])).tolist() == [
            [[True, True], [False, True], [True, False]],
            [[True, True], [False, False], [False, False]],
        ]
        (site,), (mood,) = data.factors, data.step_factors
        assert (site.role, site.classes) == ("static", ("north", "south"))
        assert (mood.role, mood.classes) == ("dynamic", ("calm", "wild"))
        assert data.labels(["site"])[:, 0].tolist() == [0, 1, 0]
        assert data.step_labels(["mood"])[..., 0].tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]


def test_a_table_is_measured_by_its_train_part_alone(tmp_path):
    text = TABLE.replace("hour,", "hour,part,").replace("a,", "a,0,", 1)
    rows = [line.split(",") for line in TABLE.splitlines()[1:]]
    parts = {"a": "train", "b": "test", "c": "train"}
    text = "name,hour,part,site,mood,heat,wind\n" + "\n".join(
        ",".join([row[0], row[1], parts[row[0]], *row[2:]]) for row in rows
    )
    with from_table(tmp_path, text, split="part") as data:
        assert data.split("train").tolist() == [0, 2] and data.split("test").tolist() == [1]
        assert data.standard.mean == pytest.approx(
            [np.mean([1, 3, 7, 9]), np.mean([10, 20, 70, 90])]
        )
        assert data.standard.scale == pytest.approx(
            [np.std([1, 3, 7, 9]), np.std([10, 20, 70, 90])]
        )
        train = data.sequences("train")
        values = train.x[train.mask.any(-1)]
        assert abs(train.x.sum((0, 1)) / train.mask.sum((0, 1))).max() < 1e-6
        assert len(values) == 5


def long_table(people: int = 4, recordings: int = 6, steps: int = 10) -> str:
    rows = ["id,t,who,what,x"]
    for person in range(people):
        for n in range(recordings):
            for t in range(steps):
                rows.append(f"p{person}r{n},{t},{person + 8},w{n % 2},{person + n + t}")
    return "\n".join(rows)


def test_a_group_is_in_one_part_and_windows_overlap(tmp_path):
    columns = {"sequence_id": "id", "time": "t", "static": ["who"], "dynamic": ["what"]}
    options = {**columns, "group": "who", "window": 4, "stride": 2, "test_fraction": 0.25}
    with from_table(tmp_path, long_table(), **options) as data:
        assert len(data) == 4 * 6 * 4 and data.ids[:3] == ["p0r0/0", "p0r0/2", "p0r0/4"]
        assert data.read([1])[0, :, 0].tolist() == [2, 3, 4, 5]
        who, what = data.factors  # what is one class in every window
        assert who.classes == ("8", "9", "10", "11")  # in the order of the numbers
        assert what.role == "dynamic" and data.step_factors == ()
        train, test = data.split("train"), data.split("test")
        assert len(test) == 24 and not set(data.groups[train]) & set(data.groups[test])
        early, late = (data.split(part, "within-group") for part in ("train", "test"))
        assert set(data.groups[early]) == set(data.groups[late]) == set(range(4))
        assert not set(early) & set(late)


BAD = {
    "time in words": (TABLE.replace("a,1,", "a,one,"), {}, "line 3: hour is 'one'.*a number"),
    "unsorted time": (
        TABLE.replace("a,2,", "a,0.5,"),
        {},
        r"line 4: hour is 0.5, but.*\(1\); sort",
    ),
    "time twice": (
        TABLE.replace("a,1,", "a,0,"),
        {},
        "line 3: hour is 0, but must be above the row before",
    ),
    "no time": (TABLE.replace("a,1,", "a,,"), {}, "line 3: hour is '', but must be a number"),
    "a date": (TABLE.replace("a,1,", "a,2020-01-01,"), {}, "'2020-01-01', .* count dates and"),
    "a number with a gap": (TABLE.replace("5,50", "5,5_0"), {}, "line 5: wind is '5_0', but must"),
    "an index without a name": (TABLE.replace("wind", ""), {}, "column 6 has no name; name it"),
    "a factor twice": (TABLE, {"static": ["site", "site"]}, "'site' is named twice by static"),
    "a factor of both roles": (TABLE, {"dynamic": ["site"]}, "'site' is named twice"),
    "a channel twice": (TABLE, {"value": ["heat", "heat"]}, "'heat' is named twice"),
    "an empty factor": (TABLE.replace("north", "").replace("south", "NA"), {}, "'site' has 0 cla"),
    "a factor named .": (TABLE.replace("site", "."), {"static": ["."]}, "cannot be named '.'"),
    "an offset": (
        TABLE.replace(",10", ",1700000010")
        .replace(",20", ",1700000020")
        .replace(",50", ",1700000050")
        .replace(",70", ",1700000070")
        .replace(",90", ",1700000090"),
        {},
        r"wind is 1.7e\+09 ± .*, which single precision cannot hold; subtract an offset",
    ),
    "no fraction": (TABLE, {"test_fraction": float("nan")}, "test-fraction is nan, but must be"),
    "a NUL": (TABLE.replace("b,", "b\0,"), {}, "NUL|cannot be read as CSV"),
    "an id again": (TABLE + "a,9,north,calm,1,1\n", {}, "line 10: sequence 'a' starts again"),
    "no id": (TABLE.replace("a,1,", ",1,"), {}, "line 3: name is empty"),
    "static that varies": (
        TABLE.replace("a,1,north", "a,1,south"),
        {},
        "line 3: site of sequence 'a' is 'south', but 'north' in line 2.*--dynamic",
    ),
    "all missing": (
        TABLE + "d,0,north,calm,,\n",
        {},
        r"sequence 'd' \(line 10\) has no value in any row; leave it out",
    ),
    "a word": (TABLE.replace("5,50", "5,much"), {}, "line 5: wind is 'much', but must be a number"),
    "infinite": (TABLE.replace("5,50", "5,inf"), {}, "line 5: wind is 'inf', but must be a number"),
    "no rows": (HEAD, {}, "has no rows"),
    "empty": ("", {}, "has no column 'name'|has no rows"),
    "short row": (TABLE + "d,0\n", {}, "line 10: has not 6 cells"),
    "one name twice": (TABLE.replace("wind", "heat"), {}, "two columns have one name"),
    "a negative seed": (TABLE, {"seed": -1}, "seed = -1 is out of range, expected 0 to"),
    "one group": (TABLE, {"test_fraction": 0.1}, "test-fraction = 0.1 of 3 groups is 0"),
    "no column": (
        TABLE,
        {"static": ["place"]},
        "has no column 'place'; its columns are name, hour",
    ),
    "no values": (
        TABLE,
        {"static": ["site", "heat"], "dynamic": ["mood", "wind"]},
        "no columns left",
    ),
    "other part": (
        TABLE,
        {"split": "site", "static": []},
        "site is 'north', but must be one of: tr",
    ),
    "no window": (TABLE, {"stride": 2}, "stride is 2, but there is no window"),
    "short window": (TABLE, {"window": 1}, "window = 1 is out of range"),
}


@pytest.mark.parametrize(("text", "options", "message"), BAD.values(), ids=BAD)
def test_a_table_that_cannot_be_used_is_one_line_and_leaves_nothing(
    text, options, message, tmp_path
):
    with pytest.raises(DataError, match=message) as caught:
        from_table(tmp_path, text, **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


def test_a_channel_that_is_constant_in_train_is_measured_by_one(tmp_path):
    head, *rows = long_table().splitlines()
    parts = ["test" if row.startswith("p3") else "train" for row in rows]
    cells = [
        f"{row},{part},{0.2 if part == 'test' else 0.1}"
        for row, part in zip(rows, parts, strict=True)
    ]
    columns = {"sequence_id": "id", "time": "t", "static": ["who"], "dynamic": ["what"]}
    table = "\n".join([f"{head},part,still", *cells])
    with from_table(tmp_path, table, **columns, split="part") as data:
        assert data.standard.channels == ("x", "still") and data.standard.scale[1] == 1
        assert data.sequences("test").x[..., 1] == pytest.approx(0.1)


def test_na_is_an_unknown_class_and_what_is_left_out_is_told(tmp_path):
    table = TABLE.replace("b,5,south", "b,5,NA").replace("b,6,south", "b,6,NA")
    with from_table(tmp_path, table) as data:
        assert data.factors[0].classes == ("north",)
        assert data.labels(["site"])[:, 0].tolist() == [0, -1, 0]
        reasons = {reason: told["names"] for reason, told in data.recipe["skipped"].items()}
        assert reasons == {"its last rows have no value": ["b", "c"]}
        assert data.recipe["static"] == ["site"] and data.recipe["time"] == "hour"
    columns = {"sequence_id": "id", "time": "t", "static": ["who"], "dynamic": ["what"]}
    with from_table(tmp_path, long_table(), **columns, window=4, overwrite=True) as data:
        (told,) = data.recipe["skipped"].values()
        assert told["count"] == 24 and told["names"][0] == "p0r0, rows from 9 on"


def test_a_sequence_of_no_group_is_one_of_its_own(tmp_path):
    rows = [f"{n},{t},{who},{t}" for n, who in enumerate(["", "u", "", "u"]) for t in range(4)]
    table = "\n".join(["id,t,who,value", *rows])
    named = {"sequence_id": "id", "time": "t", "static": [], "dynamic": [], "group": "who"}
    with from_table(tmp_path, table, **named, window=2) as data:
        assert data.ids[:2] == ["0/0", "0/2"]
        assert data.groups.tolist() == [1, 1, 0, 0, 2, 2, 0, 0]
    for groups in (["", "u", "", "u"], [np.nan, 7.0, np.nan, 7.0]):
        with arrays(tmp_path, x=SERIES[:4], group=groups) as data:
            assert data.groups.tolist() == [1, 0, 2, 0]


def test_an_unknown_class_is_no_change_of_it(tmp_path):
    table = TABLE.replace("a,2,north,wild", "a,2,north,").replace("b,6,south,wild", "b,6,south,NA")
    table = table.replace("c,3,north,calm", "c,3,north,wild")
    with from_table(tmp_path, table) as data:
        assert [factor.name for factor in data.factors] == ["site", "mood"]
        assert data.labels(["mood"])[:, 0].tolist() == [0, 0, 1]


def test_rows_that_a_window_loses_are_told(tmp_path):
    rows = [f"a,{t},{'' if t in (2, 3) else t}" for t in range(8)]
    rows += [f"b,{t},{t}" for t in range(4)]
    table = "\n".join(["id,t,value", *rows])
    named = {"sequence_id": "id", "time": "t", "static": [], "dynamic": []}
    with from_table(tmp_path, table, **named, window=4, test_fraction=0.5) as data:
        assert data.lengths.tolist() == [2, 4, 4]
        assert data.recipe["skipped"] == {
            "its last rows have no value": {"count": 1, "names": ["a/0"]}
        }


def test_parts_within_a_group_share_no_row(tmp_path):
    columns = {"sequence_id": "id", "time": "t", "static": ["who"], "dynamic": ["what"]}
    options = {**columns, "window": 4, "stride": 1, "test_fraction": 0.25}
    with from_table(tmp_path, long_table(recordings=1, steps=14), **options) as data:
        early, late = (data.split(part, "within-group") for part in ("train", "test"))
        starts = np.array([int(name.split("/")[1]) for name in data.ids])
        for group in set(data.groups[late]):
            ends = starts[early][data.groups[early] == group] + 4
            assert ends.max() <= starts[late][data.groups[late] == group].min()


def test_a_table_that_is_not_there_or_named_by_half_is_one_line(tmp_path):
    call = ["prepare", "table", str(tmp_path / "out.h5"), "--source", str(tmp_path / "no.csv")]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 2 and "table needs the option 'sequence_id'" in result.stderr
    result = CliRunner().invoke(main, [*call, "--sequence-id", "a", "--time", "b"])
    assert result.exit_code == 1 and "no.csv: cannot be read as CSV" in result.stderr
    result = CliRunner().invoke(main, [*call, "--characters", "3"])
    assert result.exit_code == 2 and "table takes no option 'characters'" in result.stderr


def arrays(tmp_path, **held):
    source = tmp_path / "mine.npz"
    np.savez(source, **held)
    prepare("arrays", tmp_path / "mine.h5", source=str(source), overwrite=True)
    return SequenceFile.open(tmp_path / "mine.h5")


def test_arrays_of_series_keep_all_that_is_named(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 4, 3))
    x[0, 1, 2] = np.nan
    mask = np.isfinite(x)
    mask[5, 0, 0] = False
    length = np.array([4, 4, 4, 4, 4, 3])
    with arrays(
        tmp_path,
        x=x,
        mask=mask,
        length=length,
        id=[f"n{n}" for n in range(6)],
        split=["train"] * 4 + ["test"] * 2,
        static_who=["u", "v", "u", "v", "u", "v"],
        dynamic_phase=np.arange(24).reshape(6, 4) % 2,
    ) as data:
        data.verify()
        assert data.ids[2] == "n2" and data.split("test").tolist() == [4, 5]
        found = data.mask(np.arange(6))
        assert not found[5, 3].any() and not found[0, 1, 2] and not found[5, 0, 0]
        assert np.allclose(data.read(np.arange(6))[found], x[found])
        assert data.labels(["who"])[:, 0].tolist() == [0, 1] * 3
        assert data.step_labels(["phase"])[5, :, 0].tolist() == [0, 1, 0, 0]  # zero after length


def test_arrays_of_frames_are_a_video(tmp_path):
    x = np.random.default_rng(0).integers(1, 256, (5, 3, 16, 16, 1), dtype=np.uint8)
    with arrays(tmp_path, x=x, length=np.array([3, 2, 3, 3, 3]), static_who=np.arange(5)) as data:
        data.verify()
        assert data.frame_shape == (1, 16, 16) and data.attrs["modality"] == "video"
        assert np.array_equal(data.read([0])[0], x[0]) and not data.read([1])[0, 2].any()
        assert len(data.split("train")) == 4


SERIES = np.zeros((6, 4, 3))
NAN = np.where(np.arange(3) == 1, np.nan, SERIES)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"y": SERIES}, "has no array x; it has y"),
        ({"x": SERIES[0]}, r"x is float64 \(4, 3\), expected uint8"),
        ({"x": SERIES.astype(int)}, "x is int64"),
        ({"x": SERIES[:0]}, "so there is no sequence"),
        ({"x": NAN, "mask": np.ones_like(NAN, bool)}, r"x\[0, 0, 1\] is NaN, but mask says"),
        ({"x": SERIES + np.inf}, "infinite values; use NaN"),
        ({"x": SERIES + 1e39}, "channel 0 of sequence 'sequence00000' is 1e.39 in step 0, which"),
        ({"x": SERIES * np.nan}, "'sequence00000' has no value at all; leave it out"),
        ({"x": NAN}, "channel 1 has no value in the train part"),
        ({"x": SERIES, "length": [4] * 5 + [9]}, "length 9 is out of range, expected 1 to 4"),
        ({"x": SERIES, "length": [2.5] * 6}, "length is float64, expected whole numbers"),
        ({"x": SERIES, "id": ["n"] * 6}, "id 'n' occurs twice"),
        ({"x": SERIES, "static_who": [1, 2]}, r"static_who has shape \(2,\), expected \(6,\)"),
        ({"x": SERIES, "labels": [1] * 6}, "has an array 'labels'; known are x, length"),
        ({"x": SERIES, "split": ["dev"] * 6}, "split is 'dev', but must be one of: train"),
        (
            {"x": SERIES, "static_who": [1] * 6, "dynamic_who": [1] * 6},
            "has static_who and dynamic_who; keep one of them",
        ),
        ({"x": SERIES, "static_who": np.arange(-1, -7, -1) * 0 - 1}, "'who' has 0 classes"),
        ({"x": SERIES, "group": [1] * 6}, "test-fraction = 0.2 of 1 groups is 0"),
        (
            {"x": SERIES, "group": [1] * 6, "split": ["train"] * 3 + ["test"] * 3},
            "split tears a group of 6 sequences apart, into test and train",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_one_line(held, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        arrays(tmp_path, **held)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


def test_unknown_classes_and_names_in_bytes_are_read(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 4, 3))
    who, size = np.array([-1, 0, 1, 0, 1, 0]), np.array([1.5, np.nan, 2, 2, 2, 2])
    names = np.array([f"\xe9{n}".encode() for n in range(6)])
    with arrays(tmp_path, x=x, static_who=who, static_size=size, id=names) as data:
        assert data.ids == [f"\xe9{n}" for n in range(6)]
        assert [factor.classes for factor in data.factors] == [("0", "1"), ("1.5", "2.0")]
        assert data.labels(["who", "size"])[:2].tolist() == [[-1, 0], [0, -1]]


def test_what_is_no_npz_file_or_pickled_is_refused(tmp_path):
    np.save(tmp_path / "c.npy", SERIES)
    (tmp_path / "a.npz").write_text("text")
    (tmp_path / "b.npz").touch()
    np.savez_compressed(tmp_path / "d.npz", x=np.arange(100.0))
    damaged = bytearray((tmp_path / "d.npz").read_bytes())
    damaged[60:80] = bytes(20)
    (tmp_path / "d.npz").write_bytes(damaged)
    for name in ("a.npz", "b.npz", "c.npy", "d.npz"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as .npz") as caught:
            prepare("arrays", tmp_path / "out.h5", source=str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read as .npz"):
        arrays(tmp_path, x=np.array([{}], dtype=object))


# MSD-Benchmark


def msd_file(path: Path, data: np.ndarray) -> np.ndarray:
    """A file as their tutorial writes one; returns the labels."""
    n = len(data)
    labels = np.stack([np.arange(n) % 3, np.arange(n) % 2, np.zeros(n, int)], axis=1)
    classes = {
        "colour": {"index": 0, "type": "static", "values": {"red": 0, "green": 1, "blue": 2}},
        "turn": {"index": 1, "type": "dynamic", "values": {"left": 0, "right": 1}},
        "unused": {"index": 2, "type": "static", "values": {"one": 0}},
    }
    for name, about in classes.items():
        about.update(n_classes=len(about["values"]), ignore=name == "unused")
    with h5py.File(path, "w") as file:
        file["data"], file["labels"] = data, labels.astype(np.int32)
        file["train_indices"], file["val_indices"], file["test_indices"] = [4, 0, 2], [1], [5, 3]
        file.attrs["classes"] = json.dumps(classes)
    return labels


@pytest.mark.parametrize("kind", ["video", "series"])
def test_a_file_of_msd_benchmark_goes_in_and_out_unchanged(kind, tmp_path):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (6, 5, 3, 16, 32), dtype=np.uint8)
    data = data if kind == "video" else rng.normal(size=(6, 5, 7)).astype(np.float32)
    labels = msd_file(tmp_path / "theirs.h5", data)
    prepare("msd", tmp_path / "ours.h5", source=str(tmp_path / "theirs.h5"))
    with SequenceFile.open(tmp_path / "ours.h5") as file:
        file.verify()
        assert file.frame_shape == (data.shape[2:] if kind == "video" else (7,))
        assert [factor.name for factor in file.factors] == ["colour", "turn"]
        assert file.factors[0].classes == ("red", "green", "blue")
        assert file.split("train").tolist() == [0, 2, 4]
        assert file.split("validation").tolist() == [1]
    result = CliRunner().invoke(
        main, ["export", "msd", str(tmp_path / "ours.h5"), str(tmp_path / "back.h5")]
    )
    assert result.exit_code == 0, result.output
    with h5py.File(tmp_path / "back.h5") as back:
        assert back["data"].dtype == data.dtype and np.array_equal(back["data"], data)
        assert np.array_equal(back["labels"], labels[:, :2])
        assert back["test_indices"][:].tolist() == [3, 5]
        classes = json.loads(back.attrs["classes"])
    assert classes["turn"] == {
        "index": 1,
        "type": "dynamic",
        "n_classes": 2,
        "ignore": False,
        "values": {"left": 0, "right": 1},
    }


def test_what_msd_benchmark_has_no_place_for_is_refused(tmp_path):
    with from_table(tmp_path) as data, pytest.raises(DataError, match="no place"):
        msd.export(data, tmp_path / "out.h5")
    x = np.zeros((5, 3, 16, 16, 5), np.uint8)
    with arrays(tmp_path, x=x) as data, pytest.raises(DataError, match="frames have 5 channels"):
        msd.export(data, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_what_is_no_file_of_msd_benchmark_is_one_line(tmp_path):
    with from_table(tmp_path):
        pass
    files = [
        tmp_path / name for name in ("mine.csv", "mine.h5", "absent.h5", "a.h5", "b.h5", "c.h5")
    ]
    for path in files[3:]:
        msd_file(path, SERIES.astype(np.float32))
    with h5py.File(files[3], "a") as file:
        file.attrs["classes"] = "[1]"
    for path, labels in ((files[4], np.zeros(6, int)), (files[5], np.zeros((6, 1), int))):
        with h5py.File(path, "a") as file:
            del file["labels"]
            file["labels"] = labels
    for source in files:
        with pytest.raises(DataError, match="is no file of MSD-Benchmark"):
            prepare("msd", tmp_path / "out.h5", source=str(source))
    msd_file(tmp_path / "d.h5", SERIES.astype(np.float32))
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file["train_indices"]
    with pytest.raises(DataError, match="d.h5: has no train_indices; without them nothing is"):
        prepare("msd", tmp_path / "out.h5", source=str(tmp_path / "d.h5"))


# What packages carry


def utterances(folder: Path, lines: dict[str, str]) -> str:
    folder.mkdir(exist_ok=True)
    for part, text in lines.items():
        (folder / f"JapaneseVowels_{part}.ts").write_text(f"#note\n@dimensions 12\n@data\n{text}")
    return str(folder)


def spoken(steps: int, speaker: int) -> str:
    return ":".join([",".join(map(str, np.arange(steps) + c)) for c in range(12)] + [str(speaker)])


def test_japanese_vowels_are_read_from_their_files(tmp_path):
    text = {
        "TRAIN": "\n".join([spoken(7, 1), spoken(5, 2), spoken(6, 1)]),
        "TEST": "\n".join([spoken(4, 2), spoken(3, 1)]),
    }
    source = utterances(tmp_path / "files", text)
    prepare("japanese-vowels", tmp_path / "jv.h5", source=source)
    with SequenceFile.open(tmp_path / "jv.h5") as data:
        assert data.lengths.tolist() == [7, 5, 6, 4, 3]
        assert data.read([1])[0, :5].tolist() == (np.arange(5)[:, None] + np.arange(12)).tolist()
        assert data.labels(["speaker"])[:, 0].tolist() == [0, 1, 0, 1, 0]
        assert data.split("test").tolist() == [3, 4]
    bad = {
        "1,2:3:1": "utterance 0 is damaged",
        "": "has no utterances",
        spoken(3, 1).replace("1", "one"): "utterance 0 is damaged",
    }
    for line, message in bad.items():
        source = utterances(tmp_path / "files", {"TRAIN": line})
        with pytest.raises(DataError, match=message):
            prepare("japanese-vowels", tmp_path / "bad.h5", source=source)
    with pytest.raises(DataError, match="absent: no such folder; --source holds Japanese"):
        prepare("japanese-vowels", tmp_path / "bad.h5", source=str(tmp_path / "absent"))


def test_a_watch_file_that_is_not_the_published_one_is_not_unpickled(tmp_path):
    np.save(tmp_path / "watch_dataset.npy", np.array({"X": []}, dtype=object))
    with pytest.raises(DataError, match="sha256 is .*pickled objects"):
        prepare("watch", tmp_path / "out.h5", source=str(tmp_path))
    with pytest.raises(OptionError, match="window = 900 is out of range"):
        prepare("watch", tmp_path / "out.h5", window=900)


@pytest.mark.skipif(find_spec("aeon") is None, reason="aeon is not installed: pip --no-deps aeon")
def test_japanese_vowels_as_published(tmp_path):
    prepare("japanese-vowels", tmp_path / "jv.h5")
    with SequenceFile.open(tmp_path / "jv.h5") as data:
        assert (len(data.split("train")), len(data.split("test"))) == (270, 370)
        assert (data.lengths.min(), data.lengths.max()) == (7, 29)
        assert np.bincount(data.labels(["speaker"])[:270, 0]).tolist() == [30] * 9


@pytest.mark.skipif(
    find_spec("seglearn") is None, reason="seglearn is not installed: pip --no-deps"
)
def test_watch_as_published(tmp_path):
    prepare("watch", tmp_path / "watch.h5")
    with SequenceFile.open(tmp_path / "watch.h5") as data:
        assert data.frame_shape == (6,) and (data.lengths == 50).all()
        assert [len(factor.classes) for factor in data.factors] == [10, 2, 7]
        train, test = data.split("train"), data.split("test")
        for part in (train, test):  # fully crossed in both
            labels = data.labels(["subject", "side", "exercise"])[part]
            assert len(np.unique(labels, axis=0)) == 140
        # What is turned in space is turned in these units too, and gravity is in them.
        assert not data.standard.mean.any()
        assert (data.standard.scale.reshape(2, 3) == data.standard.scale[[[0], [3]]]).all()
        real = data.sequences("train").x.reshape(-1, 2, 3)
        assert np.square(real).mean(axis=(0, 2)) == pytest.approx(1, rel=1e-4)
        starts = [int(name.split("-")[1]) for name in data.ids]
        for group in range(3):
            early = [starts[n] for n in train if data.groups[n] == group]
            late = [starts[n] for n in test if data.groups[n] == group]
            assert max(early) + 50 <= min(late)
    with pytest.raises(OptionError, match="leave 50 of the recordings without a window in test"):
        prepare("watch", tmp_path / "few.h5", window=200, stride=100)
    assert not (tmp_path / "few.h5").exists()
