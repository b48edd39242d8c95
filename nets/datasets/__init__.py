"""Where images come from and in which order: CIFAR's files, folders of pictures, batches, splits."""
