"""Video files and folders of pictures for tests, which need PyAV to write them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="videos need PyAV: pip install av")

PERSONS = {"11": "train", "12": "train", "19": "validation", "22": "test"}


def numbered(count, height=30, width=40):
    """Grey frames that tell their number: the n-th is of brightness 2 n, with a lighter square."""
    frames = np.empty((count, height, width), np.uint8)
    frames[:] = 2 * np.arange(count, dtype=np.uint8)[:, None, None]
    frames[:, height // 3 : -height // 3, width // 3 : -width // 3] += 60
    return frames


def encode(frames, codec="ffv1", format="avi") -> bytes:
    """Grey (T, H, W) or colour (T, H, W, 3) frames as a video file; ffv1 keeps every pixel."""
    content = io.BytesIO()
    grey = frames.ndim == 3
    with av.open(content, "w", format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.bit_rate = 4_000_000
        stream.pix_fmt = "yuv420p" if codec == "mpeg4" else "gray" if grey else "bgr0"
        for frame in frames:
            made = av.VideoFrame.from_ndarray(frame, format="gray" if grey else "rgb24")
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    return content.getvalue()


def write_video(path, frames, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(frames, **how))


def write_pictures(folder, frames):
    """frame1.png, frame2.png ... so that their order by text is another one from ten on."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"frame{n}.png")


def write_kth(folder):
    """Four persons, two actions, one or two scenarios, as KTH's archives come.

    Boxing is a zip archive with its list, walking lies in a folder, one video at the top. One is
    truncated, one is listed as missing, one is not listed, and some listed ones are not there.
    """
    lines = ["Sequences of the videos", "-----", "person01 to person25 do six actions", ""]
    with zipfile.ZipFile(folder / "boxing.zip", "w") as archive:
        for person in PERSONS:
            name = f"person{person}_boxing_d1"
            content = encode(numbered(60), codec="mpeg4")
            if person == "12":
                content = content[: len(content) * 17 // 20]  # 49 of 60 frames
            archive.writestr(f"{name}_uncomp.avi", content)
            lines.append(f"{name}\t\tframes\t 1-20, 21-40,\t41-60")
    for person in PERSONS:
        name = f"person{person}_walking_d4"
        write_video(folder / "walking" / f"{name}_uncomp.avi", numbered(60), codec="mpeg4")
        lines.append(f"{name}   frames 31-50,1-20, 15-34 ")  # neither in order nor disjoint
    for name in ("person11_jogging_d2", "person13_running_d1"):
        write_video(folder / f"{name}_uncomp.avi", numbered(12), codec="mpeg4")
    lines += ["person11_jogging_d2 frames 1-12", "person13_handclapping_d3\t\t*missing*"]
    lines += ["person20_boxing_d2\t\tframes\t1-90"]
    (folder / "00sequences.txt").write_text("\r\n".join(lines))
