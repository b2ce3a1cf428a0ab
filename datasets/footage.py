"""Frames of a video file or of a folder of pictures, one by one, in one size and colour."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from pyro_dsae.datasets.hdf5 import DataError
from pyro_dsae.datasets.source import OptionError

VIDEO_SUFFIXES = {
    *(".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
}
PICTURE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png"}
COLOURS = {"grey": "L", "grey-alpha": "LA", "rgb": "RGB", "rgba": "RGBA"}  # 1 to 4 channels
CROPS = ("centre", "none")
MULTIPLE, LARGEST = 16, 256  # of a side, in pixels: what the conv networks take


class FootageError(DataError):
    """Frames that cannot be had, and why, in words that go on after the name of their source."""


@dataclass(frozen=True)
class FrameFormat:
    """What every frame is made into.

    size: height and width in pixels, multiples of 16 up to 256.
    crop: "centre" keeps the largest part in the middle that has the shape of `size`, "none"
        squeezes the whole frame into it.
    colour: a key of COLOURS.
    Raises OptionError when one is none of these.
    """

    size: tuple[int, int]
    crop: str
    colour: str

    def __post_init__(self) -> None:
        for side in self.size:
            if side % MULTIPLE or not MULTIPLE <= side <= LARGEST:
                raise OptionError(
                    f"size = {'x'.join(map(str, self.size))}: each side must be a multiple of "
                    f"{MULTIPLE} from {MULTIPLE} to {LARGEST}"
                )
        for name, known in (("crop", CROPS), ("colour", COLOURS)):
            if getattr(self, name) not in known:
                raise OptionError(
                    f"{name} = {getattr(self, name)!r} is unknown, expected {', '.join(known)}"
                )

    @property
    def mode(self) -> str:
        """Pillow's name of the colour."""
        return COLOURS[self.colour]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a frame."""
        return (*self.size, len(self.mode))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """The frame, uint8 (H, W, C), of an image in `mode`."""
        height, width = self.size
        box = (0.0, 0.0, image.width, image.height)
        if self.crop == "centre":
            zoom = min(image.width / width, image.height / height)
            left, top = (image.width - zoom * width) / 2, (image.height - zoom * height) / 2
            box = (left, top, left + zoom * width, top + zoom * height)
        if box != (0, 0, width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR, box)
        return np.asarray(image).reshape(self.shape)


class VideoFile:
    """A file that PyAV decodes.

    name: what reports call it. open: gives a path, or the file's content as a binary file.
    stated: how many frames its header states once it is open; 0 where it states none.
    """

    def __init__(self, name: str, open: Callable[[], str | BinaryIO]):
        self.name = name
        self.stated = 0
        self._open = open

    def frames(self, mode: str) -> Iterator[Image.Image]:
        """All frames that can be decoded. Raises FootageError where there is no more to be had."""
        av = _av()
        pixels = {"L": "gray", "RGB": "rgb24"}.get(mode, "rgba")
        try:
            with av.open(self._open()) as container:
                if not container.streams.video:
                    raise FootageError("holds no video")
                self.stated = container.streams.video[0].frames
                reformatter = av.video.reformatter.VideoReformatter()  # one: each keeps a context
                for frame in container.decode(video=0):
                    # One thread: on small frames, several spend their time waiting.
                    made = reformatter.reformat(frame, format=pixels, threads=1)
                    yield Image.fromarray(made.to_ndarray()).convert(mode)
        except (av.error.FFmpegError, OSError) as error:
            raise FootageError(f"cannot be decoded ({error.strerror})") from error


class PictureFolder:
    """A folder whose pictures are the frames, in natural order: frame2.png before frame10.png.

    name: what reports call it. path: the folder. stated: how many pictures there are.
    """

    def __init__(self, name: str, path: Path):
        self.name = name
        self._paths = sorted(pictures(path), key=lambda path: natural(path.name))
        self.stated = len(self._paths)

    def frames(self, mode: str) -> Iterator[Image.Image]:
        """All frames. Raises FootageError for one that is damaged or has another size."""
        size = None
        for path in self._paths:
            try:
                with Image.open(path) as image:
                    image.load()
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise FootageError(f"{path.name} cannot be decoded") from error
            size = size or image.size
            if image.size != size:
                raise FootageError("not as large as the frames before")
            if image.mode[0] in "IF":
                raise FootageError("has more than 8 bits a channel")
            yield image.convert(mode)


Footage = VideoFile | PictureFolder


def pictures(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself, but for hidden files."""
    return [path for path in folder.iterdir() if visible(path, PICTURE_SUFFIXES)]


def visible(path: Path, suffixes: Collection[str]) -> bool:
    """Whether a file has one of these suffixes and is not hidden, as the copies that systems make
    of attributes are."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers in names by their value."""
    parts = re.findall(r"\d+|\D+", name)
    return [(True, int(part), "") if part.isdecimal() else (False, 0, part) for part in parts]


def _av():
    """PyAV, which only videos need."""
    try:
        import av
    except ImportError as error:
        raise DataError(
            "videos are decoded by PyAV, which is not installed; pip install av"
        ) from error
    return av
