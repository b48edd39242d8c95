"""Timing on the CPU or a GPU: seconds of one call, calls captured in a CUDA graph, and the kernels a call launches."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.clock import seconds

Work = Callable[[], Any]
WARM_UP = 3


def seconds_of(work: Work, device: torch.device) -> float:
    """Seconds of one call: by the clock on the CPU, between two events on a GPU."""
    if device.type == "cpu":
        start = seconds()
        work()
        return seconds() - start
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    work()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) * 1e-3


def captured(work: Work, device: torch.device) -> Work:
    """The work as a CUDA graph's replay, after a few ordinary calls on a side stream; the work itself on the CPU."""
    if device.type == "cpu":
        return work
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def kernels(work: Work, device: torch.device) -> list[tuple[str, float]]:
    """(name, microseconds) of every kernel that one call launches; none on the CPU."""
    if device.type == "cpu":
        return []
    from torch.profiler import ProfilerActivity, profile

    work()
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize(device)
    on_device = [event for event in found.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return [(event.name, event.device_time_total) for event in on_device]


def machine(device: torch.device) -> str:
    """One line for the table's head."""
    if device.type == "cpu":
        return f"{torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
