"""Which models of ours are networks of timm, and under what name."""

import re

from nfnets import models


def timm_name(name: str) -> str | None:
  """The name that timm has for a model of ours; None where it has none.

  Equal shapes are not enough: the published NF-ResNets and NF-RegNets compute
  something else than timm's of the same size.
  """
  if re.fullmatch(r'nfnet_f[0-6]', name):
    return f'dm_{name}'
  if re.fullmatch(r'nfnet_l0|eca_nfnet_l[0-3]|test_nfnet', name):
    return name
  return name.removeprefix('timm_') if name.startswith('timm_') else None


def our_name(name: str) -> str | None:
  """The model of ours that timm calls `name`, None where there is none."""
  candidates = (name, f'timm_{name}', name.removeprefix('dm_'))
  for ours in candidates:
    if ours in models.list_models() and timm_name(ours) == name:
      return ours
  return None
