"""Growing regularisation (GReg-2) on CIFAR-10, ResNet-56 at 2.55x fewer multiply-accumulates; GReg-1: --method greg1."""

from nets.recipes.paper import PaperRecipe

GREG2_RESNET56 = PaperRecipe(
    name="greg2-resnet56",
    paper="Wang, Qin, Zhang, Fu, 'Neural Pruning via Growing Regularization', ICLR 2021",
    command="prune",
    sources=(
        "[C] SGD with momentum .9, weight decay 5e-4, batch 128; lr .001 while pruning; then 120 epochs, lr .01, x 0.1 at 60, 90",
        "[C] every 10 steps 1e-5 more on all filters up to 1e-2, then 1e-4 more on the chosen up to 1; then 10,000 steps held",
        "[D] 341 epochs of 352 steps: 10,000 + 99,000 + 11,000 (a layer may stop earlier); at 120,000 the increments are these",
        "[D] budget 1 / 2.55; only first convolutions of blocks lose filters [C]",
        "[C] 93.36 % (GReg-1: 93.18 %) from 93.36 %",
    ),
    unknown=(
        "[?] whether momentum is Nesterov's; here it is not",
        "the paper prunes .75, .75, .32 of the first convolutions of the three stages; here the budget takes one share of all",
        "5,000 of the 50,000 training images are kept for validation, so an epoch has 352 steps, not 391",
    ),
    method="greg2",
    net="resnet56",
    data="cifar10",
    epochs=341,
    finetune_epochs=120,
    batch_size=128,
    optimizer="sgd",
    lr=0.001,
    schedule="constant",
    finetune_lr=0.01,
    finetune_schedule="steps=0.5/0.75",
    weight_decay=5e-4,
    budget="macs=0.392",
    exclude="conv1,*.conv2",
)
