"""The embedded digits as two data sets with different classes."""

import pathlib
import shutil
import tempfile

from nfnets import errors
from nfnets.data import sources
from nfnets.data.source import Example

FIRST, SECOND = 'digits_0-4', 'digits_5-9'
_CLASSES = 5  # of each half


def write(folder: pathlib.Path) -> None:
  """Writes the images of each half as a folder of classes, once.

  Args:
    folder: gets the folders `FIRST` and `SECOND`, unless it has them.

  Raises:
    UserError: it cannot be written.
  """
  if folder.exists():
    return
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is complete, so a kill leaves no part of it.
    temporary = pathlib.Path(
      tempfile.mkdtemp(dir=folder.parent, prefix=f'.{folder.name}.')
    )
    try:
      for split in ('train', 'test'):
        source = sources.load_source('digits', split)
        for index in range(len(source)):
          _write_image(temporary, split, index, source[index])
      temporary.chmod(0o755)
      temporary.rename(folder)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
  except OSError as error:
    raise errors.UserError(
      f'{folder} cannot be written ({error.strerror}): choose another --out'
    ) from error


def _write_image(
  folder: pathlib.Path, split: str, index: int, example: Example
) -> None:
  label = int(example['label'])
  half = FIRST if label < _CLASSES else SECOND
  path = folder / half / split / str(label) / f'{index:04}.png'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(bytes(example['image']))
