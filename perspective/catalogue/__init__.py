"""Blocks that ship with the project, one a file. To add one: write the file, add one line here."""

from perspective.catalogue.elastic import elastic
from perspective.catalogue.max_norm import max_norm
from perspective.catalogue.power import power
from perspective.catalogue.spr import spr

ALL = (spr, elastic, power, max_norm)
