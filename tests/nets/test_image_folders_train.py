"""Training on an image folder runs to the end, and gives the same bits with and without workers, torch's own state aside."""

import torch
from safetensors.torch import load_file
from small_image_folder import write_image_folder

from nets.settings import new_settings
from nets.train import train


def test_one_epoch_is_the_same_for_any_number_of_workers(tmp_path):
    write_image_folder(tmp_path)
    given = {"net": "mobilenet_v3_small", "data": "imagefolder", "data_dir": str(tmp_path), "image_size": 32}
    given |= {"method": "none", "epochs": 1, "batch_size": 16}
    weights = []
    for workers in (0, 2):
        torch.manual_seed(workers)  # dropout must not see it
        result = train(new_settings("train", {**given, "workers": workers}), tmp_path / f"run{workers}")
        assert 0 <= result["dense"]["test_accuracy"] <= 100
        weights.append(load_file(tmp_path / f"run{workers}" / "model" / "weights.safetensors"))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
