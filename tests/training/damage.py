"""Ways to damage checkpoint 2 of a directory."""

import pathlib
import shutil


def files_of(directory, step):
  """The files that contain the arrays of a checkpoint."""
  root = pathlib.Path(directory) / str(step) / 'state'
  return [p for p in root.rglob('*') if p.is_file() and 'd' in p.parts[-2:-1]]


def truncate(directory):
  largest = max(files_of(directory, 2), key=lambda p: p.stat().st_size)
  data = largest.read_bytes()
  largest.write_bytes(data[: len(data) // 2])


def empty(directory):
  shutil.rmtree(directory / '2')
  (directory / '2').mkdir()


def foreign(directory):
  empty(directory)
  (directory / '2' / 'notes.txt').write_text('mine')


def without_arrays(directory):
  shutil.rmtree(directory / '2' / 'state')


def without_manifest(directory):
  (directory / '2' / 'manifest' / 'metadata').unlink()


def garbled_manifest(directory):
  path = directory / '2' / 'manifest' / 'metadata'
  path.write_text(path.read_text().replace('float32', 'float16', 1))


def halved_manifest(directory):
  path = directory / '2' / 'manifest' / 'metadata'
  path.write_text(path.read_text()[:100])


def garbled_metrics(directory):
  (directory / '2' / 'metrics' / 'metrics').write_text('{"eval')


def halved_metadata(directory):
  path = directory / '2' / '_CHECKPOINT_METADATA'
  path.write_text(path.read_text()[:50])


ALL = [
  truncate,
  empty,
  foreign,
  without_arrays,
  without_manifest,
  garbled_manifest,
  halved_manifest,
  garbled_metrics,
  halved_metadata,
]
