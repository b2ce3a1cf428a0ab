"""The model and the guide as graphs, by pyro.render_model. Needs `pip install graphviz`.

python examples/render.py
dot -Tsvg model.gv > model.svg
"""

import sys
from pathlib import Path

import pyro
import torch

from common import small_model


def main(folder: str | Path = ".") -> list[Path]:
    dsae, x = small_model(), torch.rand(2, 3, 3, 32, 32)
    paths = [Path(folder) / "model.gv", Path(folder) / "guide.gv"]
    for program, path in zip((dsae.model, dsae.guide), paths, strict=True):
        graph = pyro.render_model(program, model_args=(x,), render_distributions=True)
        path.write_text(graph.source)
        print(path)
    return paths


if __name__ == "__main__":
    main(*sys.argv[1:])
