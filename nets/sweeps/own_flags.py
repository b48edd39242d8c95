"""Flags that only one of the compared methods gets: `--own greg2:lr=0.001 --own chipnet:optimizer=adamw`.

A method may need a rate of its own, and may share the same number of epochs out differently between its penalty and what
follows (`spr:epochs=1`); what makes cells comparable (network, data, budget, epochs in all, seed, batch) is never its own, nor
is what helps any training (distillation, smoothed labels, averaged weights, cutout).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets.options import OPTIONS
from nets.settings import flag
from perspective.errors import InputError

COMMON = (
    *("recipe", "scale_epochs", "net", "data", "data_dir", "method", "finetune_epochs", "budget", "seed"),
    *("width", "shortcut", "image_size", "batch_size", "precision", "device"),
    *("distill", "label_smoothing", "ema", "cutout"),
)


def parse_own(texts: Sequence[str], methods: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """By method, its own settings; InputError for what is no METHOD:FLAG=VALUE, is given twice, or must be common to all."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        method, colon, rest = text.partition(":")
        name, equals, word = rest.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not (colon and equals and word) or name not in OPTIONS:
            raise InputError(f"--own {text!r} is not METHOD:FLAG=VALUE, for example greg2:lr=0.001")
        if method not in methods:
            known = ",".join(methods)
            raise InputError(
                f"--own {text!r}: {method} is not among --methods {known}; add it there, or leave this out"
            )
        if name in COMMON:
            raise InputError(
                f"--own {text!r}: {flag(name)} must be the same for all methods; leave it out, or say it for all"
            )
        if name in found.setdefault(method, {}):
            raise InputError(f"--own says {flag(name)} of {method} twice; say it once")
        found[method][name] = _value(OPTIONS[name][0], word, text)
    return found


def describe_own(own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each method that has flags of its own."""
    return [
        f"Only {method}: " + ", ".join(f"{name} {value}" for name, value in flags.items()) + "."
        for method, flags in own.items()
    ]


def _value(kind: Any, word: str, text: str) -> Any:
    if kind is bool:
        if word != "true":
            raise InputError(f"--own {text!r}: a flag without a value is written {text.partition('=')[0]}=true")
        return True
    try:
        return str(Path(word).resolve()) if kind is Path else kind(word)
    except ValueError:
        raise InputError(f"--own {text!r}: {word!r} is not a number") from None
