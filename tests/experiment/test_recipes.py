"""The published recipes, against the numbers in the papers.

arXiv 2102.06171: section 4, appendix A (NFNets), A.4 (SAM), A.5 (pre-training
and fine-tuning). arXiv 2101.08692: section 4 (ResNets, NF-RegNets).
"""

import pytest

from nfnets.experiment import build, recipes

IMAGENET = 1_281_167


@pytest.mark.parametrize(
  'config, steps, warmup, peak',
  [
    # Peaks: 0.1 * batch / 256 where the paper scales them.
    (recipes.imagenet_nfnet('nfnet_f1'), 112_602, 1_563, 1.6),
    (recipes.imagenet_resnet('nf_resnet50'), 112_602, 6_255, 0.4),
    (recipes.imagenet_resnet_agc('nf_resnet50'), 28_150, 1_563, 1.6),
    (recipes.imagenet_nf_regnet('nf_regnet_b0'), 450_410, 6_255, 0.4),
    (recipes.fine_tuning('nfnet_f4'), 15_000, 5_000, 0.1),
  ],
)
def test_lengths_and_peak_learning_rates(config, steps, warmup, peak):
  length = build.lengths(config, IMAGENET)
  assert (length.total, length.warmup) == (steps, warmup)
  schedule = build.make_schedule(config, length)
  assert schedule(warmup) == pytest.approx(peak)


@pytest.mark.parametrize(
  'name, magnitude',
  [
    ('nfnet_f0', 5),
    ('nfnet_f1', 10),
    ('nfnet_f2+', 10),
    ('nfnet_f3', 15),
    ('nfnet_f7+', 15),
  ],
)
def test_nfnets_augmentation(name, magnitude):
  augment = recipes.imagenet_nfnet(name).augment
  assert augment.randaugment_layers == 4
  assert augment.randaugment_magnitude == magnitude
  assert (augment.mixup_alpha, augment.cutmix_alpha) == (0.2, 1.0)


def test_nfnets_optimizer():
  config = recipes.imagenet_nfnet('nfnet_f0')
  optimizer = config.optimizer
  assert (optimizer.clipping, optimizer.weight_decay) == (0.01, 2e-5)
  assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
  assert (config.train.label_smoothing, config.train.ema_decay) == (
    0.1,
    0.99999,
  )
  assert config.train.sam_rho == 0


def test_sam_ascends_on_a_fifth_of_the_batch():
  config = recipes.imagenet_nfnet_sam('nfnet_f6')
  assert (config.train.sam_rho, config.train.sam_share) == (0.05, 0.2)


def test_resnets_are_clipped_only_in_the_agc_recipe():
  plain = recipes.imagenet_resnet('nf_resnet50')
  clipped = recipes.imagenet_resnet_agc('nf_resnet50')
  assert (plain.optimizer.clipping, plain.train.batch_size) == (0, 1024)
  assert (clipped.optimizer.clipping, clipped.train.batch_size) == (0.01, 4096)


@pytest.mark.parametrize(
  'name, decay',
  [('nf_regnet_b0', 5e-5), ('nf_regnet_b3', 8e-5), ('nf_regnet_b8', 1e-4)],
)
def test_nf_regnets(name, decay):
  config = recipes.imagenet_nf_regnet(name)
  assert config.optimizer.weight_decay == decay
  assert config.optimizer.final_learning_rate == 0.001
  assert config.optimizer.clipping == 0
  assert config.augment.augment_before_mix


def test_pretraining_only_crops_and_flips():
  config = recipes.pretraining(
    'nfnet_f4', epochs=40.0, batch_size=4096, weight_decay=1e-6
  )
  assert config.data.image_size == config.data.eval_size == 224
  assert config.augment.randaugment_layers == 0
  assert config.augment.mixup_alpha == config.augment.cutmix_alpha == 0
  assert config.train.ema_decay == config.train.label_smoothing == 0
  assert config.optimizer.clipping == 0.01


@pytest.mark.parametrize(
  'name, rho, decay, dropout, depth',
  [('nfnet_f4', 0.05, 1e-5, 0.25, 0.1), ('nf_resnet50', 0, 0, 0, 0)],
)
def test_fine_tuning_regularizes_only_nfnets(name, rho, decay, dropout, depth):
  config = recipes.fine_tuning(name)
  assert config.train.sam_rho == rho
  assert config.optimizer.weight_decay == decay
  assert config.model.drop_rate == dropout
  assert config.model.stochdepth_rate == depth
  assert (config.train.batch_size, config.train.ema_decay) == (2048, 0.9999)
