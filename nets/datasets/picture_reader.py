"""Pictures from files, decoded and cropped by worker processes; the same pixels whatever the number of workers.

What is read is asked for picture by picture: its path, and the seed of its augmentation or None. So a worker holds no list of
files and no state, and one set of workers serves every epoch and every split.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from perspective.errors import InputError

Request = tuple[str, int | None]  # path; seed of the augmentation, None: not augmented
RESIZE = 256 / 224  # the shorter side before the centre crop, in units of the crop


@final
class Pictures:
    """A batch of requests -> uint8 (batch, image_size, image_size, 3), or a sentence where a file cannot be read.

    Augmented: a random part of the picture (8 to 100 % of its area), resized, mirrored with probability 1/2; else the shorter
    side resized to 256/224 of `image_size` and the centre cropped. Both are torchvision's for ImageNet.
    """

    def __init__(self, image_size: int) -> None:
        from torchvision.transforms import v2

        self.augmented = v2.Compose([v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()])
        self.plain = v2.Compose([v2.Resize(round(image_size * RESIZE)), v2.CenterCrop(image_size)])

    def __getitem__(self, requests: Sequence[Request]) -> Tensor | str:
        pixels = []
        state = torch.default_generator.get_state()
        try:
            for path, seed in requests:
                with Image.open(path) as file:
                    picture = file.convert("RGB")
                if seed is None:
                    picture = self.plain(picture)
                else:
                    torch.default_generator.manual_seed(seed)  # v2 draws from this one only
                    picture = self.augmented(picture)
                pixels.append(torch.from_numpy(np.array(picture)))
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            # an exception would arrive from a worker as a page of text
            return f"{path} cannot be read as an image ({type(error).__name__}); repair it or take it out of the folder"
        finally:
            torch.default_generator.set_state(state)
        return torch.stack(pixels)


@final
class Queue:
    """The batches of requests of the present pass; what the loader takes for its sampler."""

    def __init__(self) -> None:
        self.batches: Iterable[Sequence[Request]] = ()

    def __iter__(self) -> Iterator[Sequence[Request]]:
        return iter(self.batches)


@final
class PictureReader:
    """The workers and their loader; they start with the first pass and stay. workers 0: this process reads.

    pinned: batches in page-locked memory, from which a GPU can copy while it computes.
    """

    def __init__(self, image_size: int, workers: int, pinned: bool) -> None:
        self._pictures, self._queue, self._passes = Pictures(image_size), Queue(), 0
        self._loader: DataLoader[Any] = DataLoader(
            self._pictures,
            batch_size=None,
            sampler=self._queue,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else starting a pass would draw from torch's own
        )

    def read(self, batches: Iterable[Sequence[Request]]) -> Iterator[Tensor]:
        """uint8 (batch, 3, height, width), channels last in memory, for each batch; InputError names an unreadable file.

        One pass at a time: a pass that goes on after another one was begun raises RuntimeError.
        """
        self._passes += 1
        mine, self._queue.batches = self._passes, batches
        for answer in self._loader:
            if isinstance(answer, str):
                raise InputError(answer)
            yield answer.permute(0, 3, 1, 2)
            if mine != self._passes:
                raise RuntimeError("another pass over this image folder was begun before this one had ended")

    def read_here(self, requests: Sequence[Request]) -> Tensor:
        """One batch, read by this process."""
        answer = self._pictures[requests]
        if isinstance(answer, str):
            raise InputError(answer)
        return answer.permute(0, 3, 1, 2)


def _as_it_is(batch: Any) -> Any:
    return batch
