"""Structured Perspective Regularization on CIFAR-10, ResNet-20: 300 epochs under the penalty, 200 after removal."""

from nets.recipes.paper import PaperRecipe

SPR_CIFAR = PaperRecipe(
    name="spr-cifar",
    paper="Cacciola, Frangioni, Li, Lodi, SIAM J. Math. Data Sci. 2023, arXiv 2206.14056",
    command="train",
    sources=(
        "[C] SGD with momentum .9, weight decay 5e-4, batch 128, lr .1, x 0.1 at epochs 100, 250, 350, 400, 450 of 300 + 200",
        "[C] lambda .5, alpha .01, M scale 1: the authors' logs V1.1.CP, 92.26 % with 39.4 % of the parameters removed, best "
        "test epoch",
        "[D] the five falls as shares of the two phases; after removal the rate begins at .001",
    ),
    unknown=(
        "[?] the paper's tables: the row is of the authors' logs",
        "[?] how the network that M is read from was trained; here as long as the penalised phase, at the same rates",
        "the authors train by subgradients and threshold by two bisections on training accuracy; here the prox makes zeros",
        "5,000 of the 50,000 training images are kept for validation, and the test split is looked at once",
    ),
    method="spr",
    net="resnet20",
    data="cifar10",
    epochs=300,
    finetune_epochs=200,
    batch_size=128,
    optimizer="sgd",
    lr=0.1,
    schedule="steps=0.333333/0.833333",
    finetune_lr=0.001,
    finetune_schedule="steps=0.25/0.5/0.75",
    weight_decay=5e-4,
    growth="constant",
    strength=0.5,
    alpha=0.01,
    m_scale=1.0,
)
