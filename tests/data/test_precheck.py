import pytest

from nfnets import errors
from nfnets.data import images, pipeline, precheck, sources, unreadable
from tests.data import pictures


def load(root):
  return sources.load_source(f'folder:{root}', 'all')


def check(source, share=0.05, strict=False, max_pixels=images.MAX_PIXELS):
  precheck.check(source, unreadable.Policy(strict, share), max_pixels)


class ManyImages:
  """A large source, in which the given fraction of the images is damaged."""

  name, split, class_names, num_classes = 'many', 'test', ('a', 'b'), 2

  def __init__(self, damaged, length=100_000):
    self.damaged = damaged
    self.length = length
    self.read = 0
    self.image = pictures.encode(pictures.digit(0)[0])

  def __len__(self):
    return self.length

  def __getitem__(self, index):
    self.read += 1
    # Evenly spaced indices are multiples of 200.
    is_damaged = index // 200 % 100 < 100 * self.damaged
    image = b'' if is_damaged else self.image
    return {'image': image, 'label': index % 2, 'id': f'image {index}'}


@pytest.mark.parametrize('share, refused', [(0.16, True), (10 / 60, False)])
def test_all_images_of_a_small_split_are_checked(
  folder, share, refused, caplog
):
  root, bad = folder
  if not refused:
    check(load(root), share)
  else:
    match = f'10 of 60 images cannot be read, .*max_unreadable_share={share:g};'
    with pytest.raises(errors.UserError, match=match) as caught:
      check(load(root), share)
    assert any(path in str(caught.value) for path in bad)
  assert not caplog.records  # The run reports each.


@pytest.mark.parametrize(
  'damaged, share, refused',
  [
    (0.2, 0.05, True),
    (1.0, 0.5, True),
    (0.01, 0.0, True),
    (0.06, 0.05, False),  # May be chance.
    (0.04, 0.05, False),
    (1.0, 1.0, False),
    (0.0, 0.0, False),
  ],
)
def test_a_sample_of_a_large_split_is_checked(damaged, share, refused):
  source = ManyImages(damaged)
  if refused:
    with pytest.raises(errors.UserError, match=r'\d+ of 500 images cannot be'):
      check(source, share)
  else:
    check(source, share)
  assert source.read == 500


def test_check_is_as_strict_as_the_run(folder):
  root, _ = folder
  with pytest.raises(errors.UserError, match='or set strict to False'):
    check(load(root), share=1, strict=True)
  with pytest.raises(errors.UserError, match='60 of 60 images'):
    check(load(root), share=0.5, max_pixels=1)


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.webp', '.tiff'])
def test_check_finds_what_the_run_finds(tmp_path, ending):
  for label in 'ab':
    (tmp_path / label).mkdir()
  data = pictures.encode(pictures.photograph(), ending)
  kinds = pictures.broken(data)
  for kind, damaged in kinds.items():
    (tmp_path / 'a' / f'{kind}{ending}').write_bytes(damaged)
  (tmp_path / 'b' / f'good{ending}').write_bytes(data)
  source = load(tmp_path)
  batches = pipeline.eval_batches(
    source,
    batch_size=4,
    image_size=8,
    reading=pipeline.Reading(max_unreadable_share=1.0),
  )
  count = len(source) - sum(int(batch['mask'].sum()) for batch in batches)
  assert count == len(kinds)
  with pytest.raises(errors.UserError, match=f'{count} of {count + 1} images'):
    check(source)
