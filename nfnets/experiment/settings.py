"""The table of all settings: name, default, type and range.

A number without further arguments is from 0 to 10**9 (`kinds.LARGE`).
"""

from nfnets.data import presets, sources
from nfnets.experiment import kinds

_SPLITS = (*sources.SPLITS, *sources.ALIASES, 'all')

# Ordered: each freezes what is before it, too.
FREEZE = ('none', 'stem', 'stage1', 'stage2', 'stage3', 'stage4', 'all')

# The defaults train NFNet-F0 on ImageNet, only cropped and flipped.
SETTINGS: dict[str, kinds.Setting] = {
  # Random seed of the run; JAX ignores all but the lowest 32 bits.
  'seed': kinds.integer(0, most=2**32 - 1),
  # 'digits', 'folder:/path' or a TFDS name.
  'dataset': kinds.text('imagenet2012'),
  # Weights to fine-tune: a file or a hub id; '': none.
  'init_from': kinds.text(''),
  # What is not trained: nothing, the parts up to and including this one, or all
  # but the classifier.
  'freeze': kinds.text('none', FREEZE, former={True: 'all', False: 'none'}),
  #
  # python -m nfnets.models lists all names.
  'model.name': kinds.text('nfnet_f0'),
  # In the rest of this group, None is the value in the model's own table.
  # 'small' keeps the resolution, for images of about 32 pixels.
  'model.stem': kinds.text(None, ('deep', '3x3', '7x7_pool', 'small')),
  # Factor on the channels of every stage.
  'model.width': kinds.number(None, above=0, most=1000),
  # Channels of each stage, before the factor.
  'model.widths': kinds.integers(None, 1, 2**20),
  # Blocks in each stage.
  'model.depth': kinds.integers(None, 1, 1000),
  # Bottleneck / output channels of a block.
  'model.bottleneck_ratio': kinds.number(None, above=0, most=1000),
  # A second 3x3 convolution in each block.
  'model.extra_conv': kinds.flag(None),
  # Channels per group of 3x3 convolutions; 0: dense.
  'model.group_size': kinds.integer(None),
  # Hidden / input channels of squeeze-excite; 0: none.
  'model.se_ratio': kinds.number(None),
  # Dropout before the classifier.
  'model.drop_rate': kinds.number(None, below=1),
  # Stochastic depth: the rate rises with depth up to this.
  'model.stochdepth_rate': kinds.number(None, below=1),
  # 'gelu', 'relu', 'silu', ...
  'model.activation': kinds.text(None),
  # Factor on each residual branch.
  'model.alpha': kinds.number(None),
  # Initial value of the skip gains.
  'model.skip_gain_init': kinds.number(None, -kinds.LARGE),
  # Recompute each block in the backward pass.
  'model.remat': kinds.flag(False),
  #
  # Folder of prepared data sets; '': the default of TFDS.
  'data.data_dir': kinds.text(''),
  # Only folders have 'all'.
  'data.train_split': kinds.text('train', _SPLITS),
  'data.eval_split': kinds.text('test', _SPLITS),
  # Fraction of train to hold out beside a test split; 0: none.
  'data.held_out': kinds.number(0.0, below=1),
  # uniform: each image once per epoch; balanced: each class equally often.
  'data.sampling': kinds.text('uniform', ('uniform', 'balanced')),
  # Pixels; 0: the model's training size.
  'data.image_size': kinds.integer(0, most=16384),
  # Pixels at the start, growing to image_size in four stages; 0: off.
  'data.progressive_size': kinds.integer(0, most=16384),
  # Pixels; 0: image_size, or the model's test size if that is 0, too.
  'data.eval_size': kinds.integer(0, most=16384),
  # See nfnets/data/presets.py.
  'data.eval_preset': kinds.text('deepmind', presets.EVAL_PRESETS),
  # Crop area / image area.
  'data.area_range': kinds.interval((0.08, 1.0), above=0, most=1),
  # Crop width / crop height.
  'data.aspect_range': kinds.interval((3 / 4, 4 / 3), 0.01, 100),
  # Decoding threads; 0: one per available core.
  'data.num_threads': kinds.integer(0, most=1024),
  # Worker processes; 0: threads only.
  'data.num_workers': kinds.integer(0, most=1024),
  # Faster for large JPEGs; pixels differ slightly.
  'data.scaled_decoding': kinds.flag(False),
  # Stop at the first unreadable image.
  'data.strict': kinds.flag(False),
  # Fraction of unreadable images above which the run stops.
  'data.max_unreadable_share': kinds.number(0.05, below=1),
  # Height * width; larger images are unreadable.
  'data.max_pixels': kinds.integer(100_000_000, 1),
  #
  # Mirror half of the images horizontally.
  'augment.flip': kinds.flag(True),
  # RandAugment: operations per image; 0: off.
  'augment.randaugment_layers': kinds.integer(0, most=100),
  # RandAugment: level of each operation; 10 is strong.
  'augment.randaugment_magnitude': kinds.integer(0, most=100),
  # RandAugment: scale distances with the image; False: published pixels.
  'augment.randaugment_relative': kinds.flag(False),
  # Parameters of the Beta distributions of MixUp and CutMix; 0: off.
  'augment.mixup_alpha': kinds.number(0.0),
  'augment.cutmix_alpha': kinds.number(0.0),
  # RandAugment first, then MixUp and CutMix.
  'augment.augment_before_mix': kinds.flag(False),
  # RandAugment exactly as in the published code.
  'augment.reference_quirks': kinds.flag(False),
  #
  # Peak = learning_rate * batch_size / learning_rate_batch, or learning_rate
  # itself if learning_rate_batch is 0.
  'optimizer.learning_rate': kinds.number(0.1),
  'optimizer.learning_rate_batch': kinds.integer(256),
  # At the last step.
  'optimizer.final_learning_rate': kinds.number(0.0),
  # Length of the linear warm-up; steps, if not 0, replace epochs.
  'optimizer.warmup_epochs': kinds.number(5.0),
  'optimizer.warmup_steps': kinds.integer(0),
  # AdamW and LAMB usually need another learning rate and weight decay.
  'optimizer.name': kinds.text('sgd', ('sgd', 'adamw', 'lamb')),
  # For sgd: decay of the momentum buffer per step.
  'optimizer.momentum': kinds.number(0.9, below=1),
  # For sgd; False: classical momentum.
  'optimizer.nesterov': kinds.flag(True),
  # For adamw and lamb: decay of the mean gradient and of its mean square.
  'optimizer.beta1': kinds.number(0.9, below=1),
  'optimizer.beta2': kinds.number(0.999, below=1),
  # For adamw and lamb: added to the root of the mean square.
  'optimizer.eps': kinds.number(1e-8, above=0),
  # Factor on the learning rate per layer below the classifier; 1: off.
  'optimizer.layer_decay': kinds.number(1.0, above=0, most=1),
  # On weights only, not on gains and biases.
  'optimizer.weight_decay': kinds.number(2e-5),
  # AGC's lambda; 0: no clipping.
  'optimizer.clipping': kinds.number(0.0),
  # AGC's lower bound on the norm of a unit's weights.
  'optimizer.clip_eps': kinds.number(1e-3, above=0),
  # Largest norm of the whole gradient, instead of AGC; 0: no limit.
  'optimizer.clip_norm': kinds.number(0.0),
  #
  # Augmented images per step, over all devices.
  'train.batch_size': kinds.integer(4096, 1),
  # Length of the run; steps, if not 0, replace epochs.
  'train.epochs': kinds.number(360.0),
  'train.steps': kinds.integer(0),
  # Factors on the loss; balanced: the same total for every class.
  'train.class_weights': kinds.text('none', ('none', 'balanced')),
  # Fraction of each label spread over all classes.
  'train.label_smoothing': kinds.number(0.1, below=1),
  # Decay of the averaged weights per step; 0: no average.
  'train.ema_decay': kinds.number(0.0, below=1),
  # Of the forward and backward pass.
  'train.dtype': kinds.text('bfloat16', ('float32', 'bfloat16')),
  # Micro-batches per step.
  'train.accumulation': kinds.integer(1, 1),
  # Radius of sharpness-aware minimization; 0: off.
  'train.sam_rho': kinds.number(0.0),
  # Fraction of the batch that SAM's ascent sees.
  'train.sam_share': kinds.number(0.2, above=0, most=1),
  # Steps in a row that are skipped if they are not finite; 0: stop.
  'train.skip_nonfinite': kinds.integer(0),
  # Evaluations without improvement after which the run ends; 0: off.
  'train.early_stopping_patience': kinds.integer(0),
  # The accuracy or the loss, of the averaged weights if there are any.
  'train.early_stopping_metric': kinds.text(
    'eval/top1', ('eval/top1', 'eval/loss')
  ),
  #
  # Interval between evaluations; steps, if not 0, replace epochs.
  'eval.every_epochs': kinds.number(1.0, above=0),
  'eval.every_steps': kinds.integer(0),
  # Images, over all devices; 0: as in training.
  'eval.batch_size': kinds.integer(0),
  #
  # Interval between checkpoints; steps, if not 0, replace epochs.
  'checkpoint.every_epochs': kinds.number(1.0, above=0),
  'checkpoint.every_steps': kinds.integer(0),
  # Number of latest checkpoints to keep, plus the best one.
  'checkpoint.keep': kinds.integer(3, 1),
  #
  # Steps between lines of training metrics.
  'log.every_steps': kinds.integer(100, 1),
}
