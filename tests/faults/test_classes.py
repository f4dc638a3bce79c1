"""Classes are compared by name: when resuming, evaluating and converting."""

import json
import re
import shutil

import pytest

from nfnets import weights
from tests.data import pictures
from tests.experiment import tiny
from tests.faults import runs

SETTINGS = (
  '--config=experiments/digits.py',
  *tiny.NETWORK,
  '--config.train.batch_size=8',
  '--config.train.steps=6',
  '--config.optimizer.warmup_steps=1',
  '--config.optimizer.clipping=0',
  '--config.eval.every_steps=5',
  '--config.checkpoint.every_steps=3',
  '--config.log.every_steps=2',
)


def write(root, **digits):
  """Writes class folders in train/ and val/, each of one digit's pictures."""
  for name, digit in digits.items():
    numbers = [n for n in range(300) if pictures.digit(n)[1] == digit]
    for split, chosen in (('train', numbers[:12]), ('val', numbers[12:18])):
      for path in pictures.write_class_folders(root / 'new', chosen):
        path.rename(_made(root / split / name) / path.name)
  shutil.rmtree(root / 'new')


def _made(folder):
  folder.mkdir(parents=True, exist_ok=True)
  return folder


def rename(root, old, new):
  for split in ('train', 'val'):
    (root / split / old).rename(root / split / new)


def remove(root, name):
  for split in ('train', 'val'):
    shutil.rmtree(root / split / name)


def merge(root):
  for split in ('train', 'val'):
    for path in (root / split / 'dog').iterdir():
      path.rename(root / split / 'cat' / path.name)
    (root / split / 'dog').rmdir()


def swap(root):
  rename(root, 'cat', '2_cat')
  rename(root, 'dog', '1_dog')


def experiment(pets, workdir, *options):
  return runs.run(
    'nfnets.experiment',
    *SETTINGS,
    f'--config.dataset=folder:{pets}',
    f'--workdir={workdir}',
    *options,
  )


def accuracy(end):
  """Returns 'top-1 ..., loss ... on N images' of the weights."""
  line, *_ = runs.succeed(end).out.splitlines()  # the average is second
  return re.search(r': (top-1 .* on \d+ images) of ', line).group(1)


def numbers(text):
  """Returns the accuracy in percent and the loss."""
  return [float(x) for x in re.findall(r'[\d.]+(?=%)|(?<=loss )[\d.]+', text)]


@pytest.fixture(scope='module', name='trained')
def trained_on_pets(tmp_path_factory):
  folder = tmp_path_factory.mktemp('trained')
  write(folder / 'pets', cat=0, dog=1, fox=2)
  end = runs.succeed(experiment(folder / 'pets', folder / 'run'))
  (folder / 'out').write_text(end.out)
  source, target = str(folder / 'run'), str(folder / 'net')
  runs.succeed(runs.run('nfnets.convert', source, target, '--to=nfnets'))
  return folder


@pytest.fixture
def pets(trained, tmp_path):
  """A copy of the finished run and its pictures, to change."""
  shutil.copytree(trained / 'run', tmp_path / 'run')
  return shutil.copytree(trained / 'pets', tmp_path / 'pets')


@pytest.mark.slow
@pytest.mark.parametrize(
  'change, shown',
  [
    (lambda p: rename(p, 'cat', 'zebra'), ('cat; new classes: zebra',)),
    (lambda p: remove(p, 'dog'), ('removed classes: dog)',)),
    (lambda p: write(p, eel=7), ('(new classes: eel)',)),
    (swap, ('removed classes: cat, dog; new classes: 1_dog, 2_cat',)),
    (merge, ('removed classes: dog)',)),
    (
      lambda p: next((p / 'train' / 'cat').iterdir()).unlink(),
      ('training images: 36 -> 35',),
    ),
  ],
)
def test_a_run_does_not_resume_with_other_classes(pets, change, shown):
  workdir = pets.parent / 'run'
  before = (workdir / 'metrics.jsonl').read_text()
  change(pets)
  end = experiment(pets, workdir)
  runs.assert_one_line(end, f'{workdir}/checkpoints/6', *shown)
  assert (workdir / 'metrics.jsonl').read_text() == before
  assert runs.checkpoints(workdir) == [3, 6]


@pytest.mark.slow
def test_a_moved_folder_resumes(trained, pets):
  workdir = pets.parent / 'run'
  shutil.rmtree(workdir / 'checkpoints' / '6')
  moved = pets.rename(pets.parent / 'moved')
  end = runs.succeed(experiment(moved, workdir))
  assert end.err == '' and 'resuming from step 3' in end.out
  one, other = (
    runs.metrics(folder / 'run', 'train/loss', 'eval/top1')
    for folder in (trained, pets.parent)
  )
  assert one == other


@pytest.mark.slow
def test_the_end_of_a_run_of_three_classes(trained):
  rows = [
    json.loads(line)
    for line in (trained / 'run' / 'metrics.jsonl').read_text().splitlines()
  ]
  assert [row['step'] for row in rows if 'eval/top1' in row] == [6]
  names = {name for row in rows for name in row}
  assert not any('top5' in name or 'clipped' in name for name in names)
  speeds = [r['images_per_second'] for r in rows if 'images_per_second' in r]
  assert speeds and max(speeds) < 20 * min(speeds)
  assert (trained / 'out').read_text().count('eval/top1') == 1


@pytest.mark.slow
def test_converted_without_the_folder(trained, pets, tmp_path):
  shutil.rmtree(pets)
  end = runs.run(
    'nfnets.convert', str(tmp_path / 'run'), f'{tmp_path}/net', '--to=nfnets'
  )
  assert runs.succeed(end).err == ''
  loaded = weights.load_model(tmp_path / 'net')
  assert loaded.class_names == ('cat', 'dog', 'fox')
  assert loaded.images == {'train': 36, 'eval': 18}
  picture = next((trained / 'pets' / 'val' / 'dog').iterdir())
  end = runs.run(
    'nfnets.predict', f'--weights={tmp_path}/net', '--csv', str(picture)
  )
  rows = [row.split(',') for row in runs.succeed(end).out.splitlines()[1:]]
  assert {(row[2], row[3]) for row in rows} == {
    ('0', 'cat'),
    ('1', 'dog'),
    ('2', 'fox'),
  }


@pytest.mark.slow
@pytest.mark.parametrize('how', ['weights', 'workdir'])
def test_evaluated_by_name(trained, pets, tmp_path, how):
  workdir = tmp_path / 'run'
  given = [f'--weights={trained}/net'] if how == 'weights' else []

  def evaluate(folder):
    return experiment(folder, workdir, '--mode=eval', *given)

  # An unknown class, sorted before the known one.
  write(tmp_path / 'more', ant=5, dog=1)
  end = evaluate(tmp_path / 'more')
  runs.assert_one_line(end, f'folder:{tmp_path}/more', "class 'ant'")
  whole = accuracy(evaluate(pets))
  assert 'top-5' not in whole and whole.endswith(' on 18 images')
  # Each class alone, under its own number.
  parts = []
  for name, digit in (('cat', 0), ('dog', 1), ('fox', 2)):
    write(tmp_path / name, **{name: digit})
    parts.append(accuracy(evaluate(tmp_path / name)))
  right, losses = zip(*map(numbers, parts), strict=True)
  assert sum(right) / 3 == pytest.approx(numbers(whole)[0], abs=0.02)
  assert sum(losses) / 3 == pytest.approx(numbers(whole)[1], abs=2e-4)


@pytest.mark.slow
def test_weights_without_names_are_compared_by_number(trained, pets, tmp_path):
  source, target = str(tmp_path / 'run'), str(tmp_path / 'net')
  runs.succeed(runs.run('nfnets.convert', source, target, '--to=deepmind'))
  given = ('--mode=eval', f'--weights={target}')
  end = experiment(pets, tmp_path / 'run', *given)
  assert ' on 18 images' in accuracy(end)
  assert f'{target} has no class names: classes are compared by number' in (
    end.err
  )
  remove(pets, 'dog')
  end = experiment(pets, tmp_path / 'run', *given)
  runs.assert_one_line(end, target, '2 classes', 'has 3')
