"""The kernel room: how a convolution is computed, per platform."""

from nfnets.layers.convolution.dispatch import Padding, conv2d, lowering

__all__ = ['Padding', 'conv2d', 'lowering']
