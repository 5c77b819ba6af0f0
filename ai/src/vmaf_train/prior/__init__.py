"""What an encode that nobody made would score: `quality_prior`, with numpy alone.

    load --> Prior --belief(statistic)--> Belief --observe(a measured cell)*--> predict --> Foretold

A content is a Gaussian process around the corpus' mean curves, one mean curve for each encoder and
preset. What the content has of its own is a sum of three levels: what all encoders share, what one
encoder's presets share, what one preset has. Each level is a line and a smooth bend along the mean
curve, for the score and for the bits at once; ln(1 + motion2) of the reference hangs on the content
level, so that a content that moves is expected to fall faster as soon as one encode was scored.

Scores are handled as z = ln((v + 2) / (100 + softness - v)), which spreads both ends of the scale;
bits as ln(bits per pixel). `vmaf_train.training.fit_prior` makes the numbers from run folders.

process   points, covariance, curves between knots: arithmetic on arrays
cells     a measured cell of a content
belief    a content: the process, conditioned on cells
model     the prior: mean curves, and who stands for whom
file      its JSON, checked
"""

from vmaf_train.prior.belief import Z80, Belief, Foretold
from vmaf_train.prior.cells import STAND_INS, STATISTICS, Measured, measured
from vmaf_train.prior.file import FORMAT, ID, dump, load, parse
from vmaf_train.prior.model import MeanCurve, Prior, Relative, quality_max

__all__ = [
    "FORMAT",
    "ID",
    "STAND_INS",
    "STATISTICS",
    "Z80",
    "Belief",
    "MeanCurve",
    "Foretold",
    "Measured",
    "Prior",
    "Relative",
    "dump",
    "load",
    "measured",
    "parse",
    "quality_max",
]
