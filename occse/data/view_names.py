"""Names of the ways to resize and pad views, as knobs take them; reading a knob needs no torch."""

from typing import Literal

Resampling = Literal[
    "pillow",  # bicubic with antialiasing; label maps by the nearest pixel centre
    "opencv",  # cubic without antialiasing; label maps by the pixel at or before the position
]
Padding = Literal[
    "mean",  # pixels beyond the image have the mean colour
    "black",  # they are black: jiwoon-ahn/psa crops before it normalizes
]
