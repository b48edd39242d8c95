"""Tests marked slow run only when asked for: pytest -m slow. Derivations are kept in a folder of the session's own."""

import os
import shutil
import tempfile

import pytest


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # a process of pytest-xdist: the first one's folder serves all
        return
    config.derivations = tempfile.mkdtemp(prefix="derivations-")
    os.environ["PERSPECTIVE_CACHE"] = config.derivations  # before any test module derives; subprocesses inherit it


def pytest_unconfigure(config):
    if hasattr(config, "derivations"):
        shutil.rmtree(config.derivations, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    items.sort(
        key=lambda item: "test_documents_run" not in item.nodeid
    )  # the longest first: no process waits for it at the end
    if "slow" in config.getoption("markexpr"):
        return
    asked = {argument for argument in config.args if "::" in argument}  # named one by one: run it
    skip = pytest.mark.skip(reason="takes minutes; run it with -m slow")
    for item in items:
        if item.get_closest_marker("slow") and not any(item.nodeid.endswith(a.rpartition("/")[2]) for a in asked):
            item.add_marker(skip)


@pytest.fixture
def one_torch_thread():
    """torch computes on one thread in this test, and on as many as before after it."""
    import torch  # not for every suite

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
