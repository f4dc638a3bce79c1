"""The smallest runs that have all parts of a large one."""

import ml_collections

from nfnets.experiment import config as config_lib

NETWORK = (
  '--config.model.width=0.0625',
  '--config.model.group_size=8',
  '--config.model.depth=1,1,1,1',
  '--config.train.batch_size=96',
)
TWELVE_STEPS = (
  '--config.train.steps=12',
  '--config.optimizer.warmup_steps=2',
  '--config.log.every_steps=2',
)


def make_config(size: int) -> ml_collections.ConfigDict:
  """Returns the settings of a narrow ResNet on digits of `size` pixels."""
  config = config_lib.base()
  config.dataset = 'digits'
  config.model.name = 'nf_resnet50'
  config.model.width = 0.0625
  config.model.depth = (1, 1, 1, 1)
  config.data.image_size = config.data.eval_size = size
  config.train.dtype = 'float32'
  return config
