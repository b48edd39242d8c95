"""Networks beside the CIFAR ResNets of nets/resnet.py."""
