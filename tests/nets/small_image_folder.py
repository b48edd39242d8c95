"""A folder of small coloured images, as torchvision's ImageFolder reads them: a class for each primary colour."""

import numpy as np
from PIL import Image


def write_image_folder(folder, train=12, val=3):
    """`train` and `val` images of 24 x 24 pixels for each of three classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for colour, name in enumerate(("blue", "green", "red")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 100, (24, 24, 3), dtype=np.uint8)
                pixels[..., 2 - colour] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
