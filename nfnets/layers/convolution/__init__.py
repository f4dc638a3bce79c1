"""The kernel room: how a convolution is computed on each platform.

Everything here exists because a compiler is slow somewhere. Layers call
`conv2d` and know nothing of it.

  dispatch         chooses the lowering of each platform
  cpu              chooses among the lowerings for CPUs by shape
  dense            convolutions in one group
  winograd         3x3 convolutions with fewer multiplications
  standardization  weight standardization with a fast derivative
  geometry         the static description that all of them share
"""

from nfnets.layers.convolution.dispatch import conv2d, lowering
from nfnets.layers.convolution.geometry import Padding

__all__ = ['Padding', 'conv2d', 'lowering']
