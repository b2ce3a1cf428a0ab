"""KTH actions, on a set of their shape that the tests write themselves."""

import zipfile

import numpy as np
import pytest

from drawn_videos import PERSONS, encode, numbered, write_kth, write_video
from pyro_dsae.datasets import DataError, SequenceFile, prepare
from pyro_dsae.datasets.kth import PARTS, parse_sequences
from pyro_dsae.datasets.kth import PERSONS as ALL_PERSONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kth")
    write_kth(folder)
    return folder


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "kth.h5"
    with SequenceFile.open(prepare("kth", out, source=folder, size=16, frames=8, stride=6)) as data:
        yield data


def names(data, reason):
    return data.recipe["skipped"][reason]["names"]


def test_windows_are_the_listed_frames_in_the_order_of_the_list(file):
    assert file.frame_shape == (1, 16, 16)
    assert set(file.lengths) == {8}
    walking = [name for name in file.ids if name.startswith("person22_walking_d4")]
    firsts = [31, 37, 43, 1, 7, 13, 15, 21, 27]
    numbers = [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert walking == [
        f"person22_walking_d4#{n}:{first}-{first + 7}"
        for n, first in zip(numbers, firsts, strict=True)
    ]
    for name, first in zip(walking, firsts, strict=True):
        corner = file.read([file.ids.index(name)])[0, :, 0, 0, 0].astype(int)
        assert np.abs(corner - 2 * (first - 1 + np.arange(8))).max() <= 3  # mpeg4 is lossy


def test_labels_and_official_split_are_those_of_the_person(file):
    labels = file.labels(["person", "scenario", "action"])
    parts = {n: part for part in PARTS for n in file.split(part)}
    classes = [factor.classes for factor in file.factors]
    assert [factor.role for factor in file.factors] == ["static", "static", "dynamic"]
    for n, (name, row) in enumerate(zip(file.ids, labels, strict=True)):
        person, scenario, action = (of[value] for of, value in zip(classes, row, strict=True))
        assert name.startswith(f"person{person}_{action}_d{1 + row[1]}#")
        assert parts[n] == PERSONS[person]
    groups = {part: set(file.groups[file.split(part)]) for part in PARTS}
    assert not groups["train"] & groups["test"] and len(parts) == len(file)


def test_every_person_has_one_official_part():
    assert sorted(sum(PARTS.values(), ())) == sorted(ALL_PERSONS)
    assert [len(PARTS[part]) for part in ("train", "validation", "test")] == [8, 8, 9]


def test_the_split_within_persons_shares_persons_but_no_frame(file):
    train, test = (file.split(part, "within-group") for part in ("train", "test"))
    assert set(file.groups[test]) <= set(file.groups[train])

    def frames(rows):
        held = set()
        for n in rows:
            video, _, rest = file.ids[n].partition("#")
            first, last = map(int, rest.partition(":")[2].split("-"))
            held |= {(video, frame) for frame in range(first, last + 1)}
        return held

    assert not frames(train) & frames(test)
    assert any("walking" in file.ids[n] for n in train)  # ranges overlap there
    tested = {file.ids[n].partition(":")[0] for n in test}
    assert tested == {
        *(f"person{person}_walking_d4#3" for person in PERSONS),
        *(f"person{person}_boxing_d1#3" for person in PERSONS if person != "12"),
        "person12_boxing_d1#2",  # the last that can be decoded
    }


def test_what_is_skipped_is_told_with_its_reason(file):
    skipped = file.recipe["skipped"]
    (lost,) = names(file, "cannot be decoded")
    assert lost.startswith("person12_boxing_d1#3, frames 41 to 60 of ")
    assert sum(name.startswith("person12_boxing") for name in file.ids) == 2 * 3
    assert names(file, "listed as missing in 00sequences.txt") == ["person13_handclapping_d3"]
    assert names(file, "not listed in 00sequences.txt") == ["person13_running_d1_uncomp.avi"]
    absent = "listed in 00sequences.txt, but there is no such video"
    assert names(file, absent) == ["person20_boxing_d2"]
    assert sum(facts["count"] for facts in skipped.values()) == 4


def test_the_list_is_read_with_all_its_oddities():
    text = (
        "\ufeffHere are 2 sequences\nperson01_boxing_d1 is the first\n"
        "person01_boxing_d1\t\tframes\t1-95, 96-185,186 - 245 ,\n"
        "  person01_boxing_d2   frames   5-9,1-6\r\n\r\nperson13_handclapping_d3\t*missing*\n"
        "person02_walking_d4 1-7\nperson01_boxing_d2 frames 5-9, 1-6"
    )
    assert parse_sequences(text) == {
        "person01_boxing_d1": [(1, 95), (96, 185), (186, 245)],
        "person01_boxing_d2": [(5, 9), (1, 6)],
        "person13_handclapping_d3": [],
        "person02_walking_d4": [(1, 7)],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("person01_boxing_d1 frames 1-9, 9to12", "line 2: cannot read the frames '9to12' of pers"),
        ("person01_boxing_d1 frames 0-9", "cannot read the frames '0-9'"),
        ("person01_boxing_d1 frames 9-1", "cannot read the frames '9-1'"),
        ("person02_boxing_d1 frames 2-9", "line 2: lists person02_boxing_d1 again, with other"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(line, message):
    with pytest.raises(DataError, match=message):
        parse_sequences(f"person02_boxing_d1 frames 1-9\n{line}")


def test_a_copy_and_a_damaged_archive_are_skipped(tmp_path):
    (tmp_path / "00sequences.txt").write_text("person11_boxing_d1 frames 1-8\n" * 2)
    write_video(tmp_path / "a" / "person11_boxing_d1_uncomp.avi", numbered(8))
    write_video(tmp_path / "b" / "person11_boxing_d1_uncomp.avi", numbered(8))
    (tmp_path / "walking.zip").write_bytes(b"PK\3\4 cut short")
    with zipfile.ZipFile(tmp_path / "jogging.zip", "w") as archive:
        archive.writestr("person11_jogging_d1_uncomp.avi", encode(numbered(8)) * 2)
    content = bytearray((tmp_path / "jogging.zip").read_bytes())
    content[200] ^= 255
    (tmp_path / "jogging.zip").write_bytes(content)
    with (tmp_path / "00sequences.txt").open("a") as text:
        text.write("person11_jogging_d1 frames 1-8")
    with SequenceFile.open(prepare("kth", tmp_path / "x.h5", source=tmp_path, size=16)) as data:
        assert data.ids == ["person11_boxing_d1#1:1-8"]
        assert names(data, "a copy of another one here") == ["b/person11_boxing_d1_uncomp.avi"]
        assert names(data, "not a whole zip archive") == ["walking.zip"]
        assert names(data, "cannot be read from its archive") == [
            "jogging.zip/person11_jogging_d1_uncomp.avi"
        ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no 00sequences.txt; get it from https://"),
        ({"00sequences.txt": b"person11_boxing_d1 frames 1-8"}, "but there is no such video"),
        (
            {
                "00sequences.txt": b"person11_boxing_d1 frames 1-8",
                "person11_boxing_d1_uncomp.avi": b"",
            },
            "holds no usable sequence .person11_boxing_d1_uncomp.avi: cannot be decoded",
        ),
    ],
)
def test_a_folder_without_the_set_is_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=message) as error:
        prepare("kth", tmp_path / "x.h5", source=tmp_path)
    assert "\n" not in str(error.value) and sorted(tmp_path.iterdir()) == before
