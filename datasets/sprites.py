"""Sprites: animated characters composed from the layers of the Liberated Pixel Cup.

Li & Mandt, Disentangled Sequential Autoencoder, ICML 2018, https://arxiv.org/abs/1803.02991
"""

import hashlib
import io
import struct
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pyro_dsae.datasets.hdf5 import DataError, SequenceFile
from pyro_dsae.datasets.rendering import Recorded
from pyro_dsae.datasets.source import Factor, Source

DEFAULT_SOURCE = (
    "https://raw.githubusercontent.com/YingzhenLi/Sprites/3ce4048c5227802bd8f1888e293fd3afdba91c0c"
)
SHEET_SIZE = (832, 1344)  # width, height
MAX_SHEET_BYTES = 4 * 1024 * 1024
TIMEOUT_SECONDS = 60
LAYERS = ("body", "bottomwear", "topwear", "hair")  # bottom to top; the shoes come last

SHEETS = {
    "body/0.png": "27d1ac78db37c42f35a20d15c42705efc5e58d47c236cc01423879d4f797f151",
    "body/1.png": "1535e9228357b884df80f777a0d1dac10ac35e550e4d8d077105ccad014a1460",
    "body/2.png": "7c241033b4897501cb3721b6c3a9ebfa94b13db10a539edbd9bcc3e0c2a4bcb9",
    "body/3.png": "055f5aa33fc112d8444b42fce2cf50608a9fbbf2466c54ceaa46c777589a717a",
    "body/4.png": "57f3b9c510482379aba9a32fc0de7d48e9cbe3dc40f2447283547f773b77ca72",
    "body/5.png": "91e49453aeab5ebbb4fd2b48253812895dcfb4cb1829b84e24425c66de8f04ff",
    "bottomwear/0.png": "4ec356c488e272fde2d2d0d722b12a80217871e41161d43ba784caf243969ec2",
    "bottomwear/1.png": "0674312eaa4ab548f8bb31ef95d7dbd46b41555758cec51bd6c3e9fac9a0f936",
    "bottomwear/2.png": "3b464feb0d20ff34b0ca2a6d1fd00766ad86e2229c3d56ff91379fe27588a893",
    "bottomwear/3.png": "b366e84ea0519d06cf693f51e0ee2f9ac32b3132d27c75dfdc4b6f52fca072de",
    "bottomwear/4.png": "4ed7e7702e4f50b9692c0043be04b7296a108d85ea97230fb50d13c150d98771",
    "bottomwear/5.png": "a5c5e7e33f13fe5ad37b5836a5a74fb0d2094a0877c2146961b88688ff85840d",
    "topwear/0.png": "b917edcf2b3c35d51ef57a6fad67557c5edf048785bea29db09a640d09ac9a90",
    "topwear/1.png": "e33c6cb31ed1268a2c0dc73b665b1c9b9420e22baf3321880222bdb22682368b",
    "topwear/2.png": "2b9b8fefa08894b7ea536cd62b86d494aefe6e54495c5c1d83460827b13b6448",
    "topwear/3.png": "807f5b628592f6747e2814be9435963069dba6c360577168c02f57bbe903433d",
    "topwear/4.png": "b51b17878503877e179ce4f9231713bf2b2d2d666c3ec9ee29f4e784469867a2",
    "topwear/5.png": "1b6049d43f83ebfda857cc405d1936ac9fd80be480fa6ad239024a6a75ad0372",
    "hair/0.png": "e4007b0635a239ad16cdebfe90759349ccc73dfc6836c9d19625714be185f43d",
    "hair/1.png": "fa6369f84d3310705df6d8ca8c9d515a7d211e73d2826c50a9cb5bb285652c66",
    "hair/2.png": "1b8046752be7233e829ebe9b11048e171d8d181ee6f68e07042b34f57bb8af0d",
    "hair/3.png": "333783285c5fd94ff434ae5000d2da39aac7940269f173119eaa70d34c8acfa1",
    "hair/4.png": "24df8e9b291cbd444f6c4d12d35b3d43d909cd13f04e6401e0fd8ab10216d5a2",
    "hair/5.png": "4dd471cc20e0b1cf71adcaab01c88598767e5cfe680adacdf560ca91574f17ae",
    "shoes/1.png": "d56a561616a20a12030d2d40a52eeec63e6d048871bf3b6994221869362151f1",
}

# (front, left, right) sheet rows and the sheet column of each output frame
MOTIONS = {
    "walk": ((10, 9, 11), (8, 1, 2, 3, 4, 5, 6, 7)),
    "spellcard": ((2, 1, 3), (0, 1, 2, 3, 4, 5, 4, 6)),
    "slash": ((14, 13, 15), (0, 1, 2, 3, 4, 5, 4, 0)),
}
DYNAMIC_FACTORS = (
    Factor("action", "dynamic", tuple(MOTIONS)),
    Factor("direction", "dynamic", ("front", "left", "right")),
)


class Sprites(Source):
    """The benchmark of Li & Mandt (2018): 8 frames of 64 x 64 pixels, 11664 sequences in all.

    source: folder or URL (http, https or file) that holds body/0.png and the other 24 sheets;
        by default the public repository they were published in.
    Raises DataError when a sheet is missing or is not the published one, by its sha256.
    """

    name = "sprites"
    factors = (
        Factor("body", "static", ("light", "tanned2", "darkelf", "darkelf2", "dark", "dark2")),
        Factor(
            "bottomwear",
            "static",
            (
                "white pants",
                "golden greaves",
                "red pants",
                "metal pants",
                "teal pants",
                "formal pants",
            ),
        ),
        Factor(
            "topwear",
            "static",
            (
                "maroon longsleeve",
                "teal longsleeve",
                "white longsleeve",
                "plate",
                "leather",
                "formal shirt with tie",
            ),
        ),
        Factor(
            "hair",
            "static",
            (
                "green messy",
                "blue longknot",
                "blonde messy",
                "white bangs",
                "ruby plain",
                "purple jewfro",
            ),
        ),
        *DYNAMIC_FACTORS,
    )
    steps = 8
    n_train = 1000
    origin = "YingzhenLi/Sprites, commit 3ce4048c5227802bd8f1888e293fd3afdba91c0c"
    licence = "CC-BY-SA-3.0 OR GPL-3.0"
    attribution = (
        "Composed from sprite sheets of the Liberated Pixel Cup and Universal-LPC-spritesheet, by "
        "Luke Mehl, Johannes Sjölund, Marcel van de Steeg, Manuel Riecke, Thane Brimhall, "
        "Matthew Krohn, Lori Angela Nagel, Lanea Zimmerman (Sharm), Stephen Challener (Redshrike), "
        "Daniel Eddeland, Shaun Williams, Joe White, Mark Weyer, Barbara Rivera, JRConway3, "
        "JaidynReiman, Nila122 and neo4cat6. Changed: layers composited on black, animations cut "
        "into sequences of 8 frames."
    )
    citation = "Li and Mandt (2018). Disentangled Sequential Autoencoder. ICML. arXiv:1803.02991."
    source_sha256 = hashlib.sha256("".join(SHEETS.values()).encode()).hexdigest()

    def __init__(self, source: str | Path | None = None):
        source = DEFAULT_SOURCE if source is None else source
        sheets = {
            path: _decode(_check(_fetch(source, path), path, source, sha256))
            for path, sha256 in SHEETS.items()
        }
        self._layers = [[_strips(sheets[f"{layer}/{i}.png"]) for i in range(6)] for layer in LAYERS]
        self._shoes = _strips(sheets["shoes/1.png"])

    @classmethod
    def renderer(cls, file: SequenceFile) -> Recorded:
        """Finds sequences in the file itself, which holds all motions of its characters."""
        return Recorded(file, cls.factors)

    @property
    def recipe(self) -> dict[str, Any]:
        return {**super().recipe, "layers": [*LAYERS, "shoes/1"], "background": "black"}

    def _render(self, labels: np.ndarray) -> np.ndarray:
        frames = np.empty((len(labels), 8, 64, 64, 3), np.uint8)
        for n, (row, motion) in enumerate(zip(labels, self.motion(labels), strict=True)):
            canvas = Image.new("RGBA", (64, 8 * 64), (0, 0, 0, 255))
            for strips, value in zip(self._layers, row[:4], strict=True):
                canvas.alpha_composite(strips[value][motion])
            canvas.alpha_composite(self._shoes[motion])
            frames[n] = np.asarray(canvas)[..., :3].reshape(8, 64, 64, 3)
        return frames


def _strips(sheet: np.ndarray) -> list[Image.Image]:
    """Cut a sheet (1344, 832, 4) into one image a motion class, its 8 frames stacked downwards."""
    tiles = sheet.reshape(21, 64, 13, 64, 4).swapaxes(1, 2)  # (row, column, 64, 64, 4)
    return [
        Image.fromarray(np.ascontiguousarray(tiles[row, list(columns)]).reshape(8 * 64, 64, 4))
        for rows, columns in MOTIONS.values()
        for row in rows
    ]


def _fetch(source: str | Path, path: str) -> bytes:
    """Read one sheet, of at most MAX_SHEET_BYTES, from a folder or a URL."""
    if "://" not in str(source):
        place = Path(source) / path
        try:
            with place.open("rb") as file:
                return file.read(MAX_SHEET_BYTES + 1)
        except OSError as error:
            raise DataError(
                f"{place}: cannot read this sheet ({error.strerror}); "
                f"--source must be a folder that holds {path}"
            ) from error
    url = f"{str(source).rstrip('/')}/{path}"
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https", "file"):
        raise DataError(
            f"{source}: cannot read {scheme}:// URLs; use http, https, file or a folder"
        )
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            return response.read(MAX_SHEET_BYTES + 1)
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code}"
        error.close()
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
    raise DataError(
        f"{url}: cannot download this sheet ({reason}); "
        "check the connection, or give --source a folder with the sheets"
    )


def _check(data: bytes, path: str, source: str | Path, sha256: str) -> bytes:
    """Return data when it is the published sheet; nothing is decoded before this."""
    found = hashlib.sha256(data).hexdigest()
    if found == sha256:
        return data
    where = f"{str(source).rstrip('/')}/{path}"
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise DataError(f"{where}: not a PNG file; {_remedy(path)}")
    size = struct.unpack(">II", data[16:24])
    if size != SHEET_SIZE:
        raise DataError(
            f"{where}: {size[0]} x {size[1]} pixels, expected {SHEET_SIZE[0]} x {SHEET_SIZE[1]}; "
            f"{_remedy(path)}"
        )
    raise DataError(f"{where}: sha256 is {found}, expected {sha256}; {_remedy(path)}")


def _remedy(path: str) -> str:
    return f"get {path} again from {DEFAULT_SOURCE}/{path}"


def _decode(data: bytes) -> np.ndarray:
    """Decode a checked sheet as RGBA, shape (1344, 832, 4)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGBA"))
