"""Fine-tunes published weights on your own pictures.

  python -m nfnets.experiment --config=experiments/finetune.py
      --config.dataset=folder:/pictures

/pictures contains one folder per class, or train/CLASS and val/CLASS; any other
data set works too. The weights are downloaded from the Hugging Face hub;
--config.init_from=FILE reads them from a file, and an empty
--config.init_from= trains from scratch. A new classifier for your classes
replaces the published one. --config.freeze=all trains only the classifier,
which is faster and enough for a few hundred pictures.

Meant for one GPU. On a CPU, set --config.freeze=all and a smaller
--config.data.image_size.
"""

from nfnets.experiment import config as config_lib


def get_config():
  config = config_lib.base()
  config.dataset = 'folder:'
  config.init_from = 'timm/dm_nfnet_f0.dm_in1k'
  config.model.name = 'nfnet_f0'
  config.model.drop_rate = 0.25
  config.model.stochdepth_rate = 0.1
  config.data.eval_split = 'valid'
  # Close to the published preset at the model's own size. The published one
  # shows only the center of smaller images.
  config.data.eval_preset = 'timm'
  config.data.area_range = (0.25, 1.0)
  # RandAugment is off; if you enable it, its distances fit the image size.
  config.augment.randaugment_relative = True
  config.optimizer.learning_rate = 0.02
  config.optimizer.learning_rate_batch = 0
  config.optimizer.warmup_epochs = 1.0
  config.optimizer.weight_decay = 1e-5
  config.optimizer.clipping = 0.01
  config.train.batch_size = 32
  config.train.epochs = 10.0
  config.train.ema_decay = 0.999
  config.log.every_steps = 10
  return config
