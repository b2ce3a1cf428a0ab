import json

import pytest
import torch
from safetensors.torch import save_file

from conftest import tiny_model
from pyro_dsae import CheckpointError, load, save


def test_a_model_survives_the_disk_exactly(dsae, frames, tmp_path):
    dsae = dsae.float().eval()
    save(dsae, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.config == dsae.config
    assert torch.equal(loaded.reconstruct(frames.float()), dsae.reconstruct(frames.float()))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_from_before_an_option_existed_has_its_default(dsae, tmp_path):
    options = dsae.config.to_dict()
    del options["learn_scale"]
    metadata = {"pyro-dsae": json.dumps(options)}
    save_file(dsae.state_dict(), tmp_path / "model.safetensors", metadata)
    assert load(tmp_path / "model.safetensors").config == dsae.config


def test_an_existing_file_is_kept_unless_overwritten(dsae, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("precious")
    with pytest.raises(CheckpointError, match="exists; use --overwrite"):
        save(dsae, path)
    assert path.read_text() == "precious"
    save(dsae, path, overwrite=True)
    assert load(path).config == dsae.config


def test_an_impossible_place_leaves_nothing(dsae, tmp_path):
    with pytest.raises(CheckpointError, match="cannot write .No such file.*check the folder"):
        save(dsae, tmp_path / "absent" / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_model(tmp_path, little_space):
    path = tmp_path / "model.safetensors"
    path.write_text("precious")
    with pytest.raises(CheckpointError, match="cannot write .File too large.*free space"):
        save(tiny_model(code_dim=100), path, overwrite=True)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_and_broken_files_are_refused(dsae, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load(path)
    save(dsae, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(path)
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not one of a model that pyro-dsae wrote"):
        load(path)
