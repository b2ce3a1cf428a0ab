import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_setup_names_every_package():
    """An editable install hides a package that a wheel would lack."""
    listed = re.search(r"packages=\[(.*?)\]", (ROOT / "setup.py").read_text(), re.DOTALL).group(1)
    named = re.findall(r"\"([\w.]+)\"", listed)
    folders = {path.parent for path in ROOT.glob("pyro_dsae/**/__init__.py")}
    # Symlinks, which glob does not follow everywhere.
    folders |= {ROOT / "pyro_dsae" / name for name in ("cli", "datasets")}
    assert sorted(named) == sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)
