import re
from pathlib import Path

import pyro

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_fifteen_lines_run_and_give_the_shapes_they_state():
    snippet = re.search(r"test_readme.py -->\n```python\n(.*?)```", README, re.DOTALL).group(1)
    names: dict = {}
    with pyro.get_param_store().scope():
        exec(snippet, names)
    assert names["loss"] > 0
    assert names["f"].shape == (8, 64) and names["z"].shape == (8, 6, 32)
    assert names["swapped"].shape == (4, 6, 3, 64, 64)
