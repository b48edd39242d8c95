"""The published settings of the methods' papers, one a file; `perspective prune --recipe NAME` fills in what is not given."""

from nets.recipes.apply import ALL, choose_recipe, describe_recipe, recipe_settings, scaled
from nets.recipes.paper import PaperRecipe

__all__ = ["ALL", "PaperRecipe", "choose_recipe", "describe_recipe", "recipe_settings", "scaled"]
