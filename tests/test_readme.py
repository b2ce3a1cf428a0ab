import re
from pathlib import Path

import pyro

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"test_readme.py -->\n```python\n(.*?)```", README, re.DOTALL)


def run(snippet: str) -> dict:
    names: dict = {}
    with pyro.get_param_store().scope():
        exec(snippet, names)
    return names


def test_the_fifteen_lines_run_and_give_the_shapes_they_state():
    names = run(SNIPPETS[0])
    assert names["loss"] > 0
    assert names["f"].shape == (8, 64) and names["z"].shape == (8, 6, 32)
    assert names["swapped"].shape == (4, 6, 3, 64, 64)


def test_a_file_is_prepared_and_a_model_trained_on_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(SNIPPETS[1])
    assert names["dsae"].config.guide == "factorized"
    assert (tmp_path / "runs" / "a" / "metrics.jsonl").read_text().count("\n") == 1
