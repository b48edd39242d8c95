"""A captured training step trains as the ordinary one; the GPU's part skips itself where there is none."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets.fused.uploaded import Uploaded
from nets.groups import channel_groups
from nets.optimizer import Proximal
from nets.prox import prox_step
from nets.settings import new_settings
from nets.training.captured import WARM_UP, CapturedStep
from perspective import InputError, declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=0.4)
SETTINGS = new_settings("train", {"net": "resnet20", "data": "digits", "method": "spr"})
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def network(device):
    torch.manual_seed(1)
    layers = (nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(16, 3)).to(device)


def stepper(model, optimizer):
    def work(images, labels):
        optimizer.zero_grad(set_to_none=True)
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    return work


def trained(device, implementation, capture, kind="sgd", steps=12):
    model = network(device)
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    if kind == "adamw":
        inner = torch.optim.AdamW(model.parameters(), lr=0.01, capturable=device == "cuda")
    groups = channel_groups(model, torch.zeros(1, 2, 6, 6, device=device))
    optimizer = Proximal(inner, groups, REGULARISER, 2.0, implementation)
    work = stepper(model, optimizer)
    step = CapturedStep(work, optimizer) if capture else work
    generator, losses = torch.Generator().manual_seed(0), []
    for number in range(steps):
        count = 5 if number == WARM_UP + 4 else 8  # one odd batch between replays
        images = torch.randn(count, 2, 6, 6, generator=generator).to(device)
        labels = (torch.arange(count) % 3).to(device)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        if number == steps - 2:
            optimizer.strength = 4.0
        losses.append(step(images, labels)[0])
    assert all(isinstance(group["lr"], float) for group in optimizer.param_groups)
    return model, losses


@gpu
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("implementation", ["fused", "fused_step"])
def test_replays_follow_schedules_and_odd_batches(implementation, kind):
    captured, losses = trained("cuda", implementation, True, kind)
    eager, truth = trained("cuda", implementation, False, kind)
    assert torch.allclose(torch.stack(losses), torch.stack(truth), atol=1e-4)
    for a, b in zip(captured.parameters(), eager.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    again, _ = trained("cuda", implementation, True, kind)
    assert all(torch.equal(a, b) for a, b in zip(captured.parameters(), again.parameters(), strict=True))


@gpu
def test_the_kernel_on_a_gpu_is_the_loop():
    model = network("cuda")
    groups = channel_groups(model, torch.zeros(1, 2, 6, 6, device="cuda"))
    twin = copy.deepcopy(groups)
    regularisers = {layer.name: REGULARISER for layer in groups.layers}
    steps = {layer.name: 0.05 for layer in groups.layers}
    prox_step(groups, steps, regularisers, "fused")
    prox_step(twin, steps, regularisers, "loop")
    for a, b in zip(groups.layers, twin.layers, strict=True):
        assert torch.allclose(groups.rows(a), twin.rows(b), atol=1e-6)
        assert torch.equal(groups.rows(a) == 0, twin.rows(b) == 0)


def test_on_the_cpu_it_is_the_ordinary_step():
    one, losses = trained("cpu", "flat", True)
    two, truth = trained("cpu", "flat", False)
    assert torch.equal(torch.stack(losses), torch.stack(truth))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "cpu"}, "--device cuda"),
        ({"implementation": "flat"}, "fused or fused_step"),
        ({"clip": 1.0}, "no --clip"),
        ({"ema": 0.9}, "no --ema"),
        ({"accumulate": 2}, "no --accumulate"),
    ],
)
def test_what_cannot_be_captured_is_refused(changes, words):
    right = {"device": "cuda", "implementation": "fused_step", "capture": True}
    assert replace(SETTINGS, **right).capture
    with pytest.raises(InputError, match=words):
        replace(SETTINGS, **{**right, **changes})


def test_tables_are_sent_again_when_they_changed():
    import numpy as np

    table = Uploaded(torch.device("cpu"))
    first = table.put(np.array([1.0, 2.0]))
    assert table.put(np.array([1.0, 2.0])) is first
    second = table.put(np.array([1.0, 3.0]))
    assert second.tolist() == [1.0, 3.0]
    assert table.put(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
