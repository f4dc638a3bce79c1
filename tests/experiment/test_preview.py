"""python -m nfnets.augment draws the images of a training step."""

import sys

import cv2
import jax
import numpy as np
import pytest

from nfnets.experiment import build, command_line, inputs
from nfnets.experiment import preview as entry
from nfnets.runtime import compilation

CONFIG = [
  '--config=experiments/digits.py',
  '--config.augment.mixup_alpha=0.2',
  '--config.augment.cutmix_alpha=1.0',
  '--config.train.batch_size=12',
]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, request):
  monkeypatch.chdir(request.config.rootpath)


def test_examples_are_those_of_the_step():
  config, _ = command_line.parse_config(CONFIG)
  with jax.default_prng_impl('rbg'):  # as in training, ignored
    images, captions = entry.examples(config, step=3, count=8)
  assert images.shape == (8, 32, 32, 3)
  assert images.dtype == np.uint8

  source = inputs.load_source(config, 'train')
  model = build.make_model(config, source.num_classes)
  preprocess = inputs.make_preprocess(config, model)
  batch = inputs.train_batches(config, source, model, 2)[3]
  expected, labels = jax.jit(preprocess.apply)(
    jax.random.fold_in(jax.random.key(config.seed), 3),
    *(batch['image'], batch['label']),
    np.arange(12, dtype=np.int32),
  )
  levels = np.asarray(expected) * model.config.std + model.config.mean
  np.testing.assert_allclose(images, 255 * levels[:8], rtol=0, atol=0.51)
  for label, caption in zip(np.asarray(labels)[:8], captions, strict=True):
    assert str(np.argmax(label)) in caption


def test_the_size_is_that_of_the_step():
  config, _ = command_line.parse_config(
    [*CONFIG, '--config.data.progressive_size=16', '--config.train.steps=400']
  )
  shapes = [
    entry.examples(config, step, count=2)[0].shape for step in (99, 100, 300)
  ]
  assert shapes == [(2, size, size, 3) for size in (16, 24, 32)]


def test_the_batch_size_limits_the_examples(tmp_path, monkeypatch, capsys):
  out = tmp_path / 'grid.png'
  monkeypatch.setattr(sys, 'argv', ['augment', f'--out={out}', *CONFIG])
  monkeypatch.setattr(compilation, 'enable_compilation_cache', lambda: None)
  entry.main()
  assert capsys.readouterr().out == f'12 examples of step 0: {out}\n'
  assert cv2.imread(str(out)).shape[2] == 3


def test_captions_contain_the_weight_of_each_class():
  names = ['tench', 'goose', 'crane']
  assert entry.caption(np.float32([0, 1, 0]), names) == 'goose'
  assert entry.caption(np.float32([0.62, 0, 0.38]), names) == (
    '62% tench, 38% crane'
  )
  assert entry.caption(np.float32([0.998, 0, 0.002]), names) == 'tench'


@pytest.mark.parametrize('argument', ['--count=0', '--step=-1', '--count=x'])
def test_impossible_numbers_exit_with_2(argument, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['augment', argument, *CONFIG])
  with pytest.raises(SystemExit) as caught:
    entry.main()
  assert caught.value.code == 2
  assert argument.split('=')[0] in capsys.readouterr().err
