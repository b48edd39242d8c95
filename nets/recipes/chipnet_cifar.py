"""ChipNet on CIFAR-10, ResNet-50: 20 epochs with gates, 300 after them."""

from nets.recipes.paper import PaperRecipe

CHIPNET_CIFAR = PaperRecipe(
    name="chipnet-cifar",
    paper="Tiwari, Bamba, Chavan, Gupta, 'ChipNet: Budget-Aware Pruning with Heaviside Continuous Approximations', ICLR 2021",
    command="prune",
    sources=(
        "[C] 20 epochs from a trained network, AdamW, lr .001, weight decay .001 (0 on gates), batch 32",
        "[C] then 300 epochs with the gates fixed, SGD, momentum .9, lr .05, weight decay .001, x 0.5 every 30 epochs",
        "[C] ResNet-50 at a volume budget of 12.5 % keeps 2.8 % of the parameters and 5.1 % of the FLOPs (issue 14 of the code)",
    ),
    unknown=(
        "[?] the tables of accuracies: the paper's text was not at hand",
        "[C] batch 128 after the gates, and the epoch of best validation; here a run has one batch size, 32, and the last epoch",
        "[?] how the rate falls while the gates are trained; here it does not",
        "how volume is counted: nets/measure.py; a layer keeps one channel at least, the paper may drop whole blocks",
    ),
    method="chipnet",
    net="resnet50_cifar",
    data="cifar10",
    epochs=20,
    finetune_epochs=300,
    batch_size=32,
    optimizer="adamw",
    lr=0.001,
    schedule="constant",
    finetune_lr=0.05,
    finetune_schedule="steps=0.1/0.2/0.3/0.4/0.5/0.6/0.7/0.8/0.9:0.5",
    finetune_optimizer="sgd",
    weight_decay=0.001,
    budget="volume=0.125",
    floor=0.0,
)
