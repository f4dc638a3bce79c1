"""Which models of ours are networks of timm, and under what name."""

import re


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
  if name.startswith('dm_nfnet_f'):
    return name.removeprefix('dm_')
  if name.startswith(('nf_resnet', 'nf_seresnet', 'nf_ecaresnet', 'nf_regnet')):
    return f'timm_{name}'
  return name if timm_name(name) == name else None
