"""Build configuration: maps the top-level folders ``cli/`` and ``datasets/`` into the package."""

from setuptools import setup

setup(
    # Named one by one: find_packages would follow the symlinks as well.
    packages=[
        "pyro_dsae",
        "pyro_dsae.analyses",
        "pyro_dsae.evaluation",
        "pyro_dsae.objectives",
        "pyro_dsae.cli",
        "pyro_dsae.datasets",
    ],
    package_dir={"pyro_dsae.cli": "cli", "pyro_dsae.datasets": "datasets"},
    package_data={"pyro_dsae": ["py.typed"]},
)
