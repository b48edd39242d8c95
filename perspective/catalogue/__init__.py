"""Blocks that ship with the project, one a file. To add one: write the file, add one line here."""

from perspective.catalogue.cubic import cubic
from perspective.catalogue.elastic import elastic
from perspective.catalogue.huber import huber
from perspective.catalogue.hyperbolic import hyperbolic
from perspective.catalogue.linear import linear
from perspective.catalogue.max_norm import max_norm
from perspective.catalogue.nonnegative import nonnegative
from perspective.catalogue.power import power
from perspective.catalogue.reverse_huber import reverse_huber
from perspective.catalogue.saturating import saturating
from perspective.catalogue.spr import spr
from perspective.catalogue.spr_ball import spr_ball

ALL = (
    *(spr, spr_ball, reverse_huber, elastic, nonnegative, power, cubic, huber, linear, max_norm),
    *(hyperbolic, saturating),
)
