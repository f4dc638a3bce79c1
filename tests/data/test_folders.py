import os
import time

import numpy as np
import pytest

from nfnets import errors
from nfnets.data import cache, folders


def touch(root, *paths):
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b'')


def age(root):
  """Makes every folder look as if it was last changed an hour ago."""
  past = time.time() - 3600
  for folder, _, _ in os.walk(root):
    os.utime(folder, (past, past))


def listed(root):
  return [os.fsdecode(path) for path in folders.list_images(root).paths]


def test_endings_nesting_and_hidden_files(tmp_path):
  touch(
    tmp_path,
    *('b/1.jpg', 'a/2.JPEG', 'a/x/y/3.PnG', 'a/x/4.webp', 'c/5.TIFF'),
    *('a/notes.txt', 'a/.6.jpg', '.git/7.jpg', 'a/8', 'a/9.jpg.part'),
  )
  assert listed(tmp_path) == [
    *('a/2.JPEG', 'a/x/4.webp', 'a/x/y/3.PnG', 'b/1.jpg', 'c/5.TIFF'),
  ]


def test_links_are_followed_but_not_in_circles(tmp_path):
  touch(tmp_path, 'real/a/1.jpg', 'other/2.jpg')
  (tmp_path / 'real/b').symlink_to(tmp_path / 'other')
  (tmp_path / 'real/a/3.jpg').symlink_to(tmp_path / 'other/2.jpg')
  (tmp_path / 'real/a/gone.jpg').symlink_to(tmp_path / 'nowhere.jpg')
  (tmp_path / 'real/a/up').symlink_to(tmp_path / 'real')
  # A broken link is listed: that it cannot be read is said when it is read.
  assert listed(tmp_path / 'real') == [
    *('a/1.jpg', 'a/3.jpg', 'a/gone.jpg', 'b/2.jpg'),
  ]


def test_strange_names(tmp_path):
  names = ['a b/ü.jpg', 'a b/日本.png', 'a b/new\nline.jpg']
  touch(tmp_path, *names)
  (tmp_path / os.fsdecode(b'a b/\xff.jpg')).write_bytes(b'')
  assert len(listed(tmp_path)) == 4
  assert set(names) < set(listed(tmp_path))


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (['b', 'a', 'C'], ('C', 'a', 'b')),
    (['10', '9', '0'], ('0', '9', '10')),
    (['10', '9', 'x'], ('10', '9', 'x')),
    (['1', '01'], ('01', '1')),
  ],
)
def test_classes_are_sorted(tmp_path, names, expected):
  touch(tmp_path, 'loose.jpg', *(f'{name}/1.jpg' for name in names))
  assert folders.list_images(tmp_path).class_names() == expected


def changes(tmp_path):
  def link():
    (tmp_path / 'b/2.jpg').symlink_to(tmp_path / 'a/1.jpg')

  return {
    'added': lambda: touch(tmp_path, 'a/x/2.jpg'),
    'class': lambda: touch(tmp_path, 'c/3.jpg'),
    'removed': (tmp_path / 'a/1.jpg').unlink,
    'renamed': lambda: (tmp_path / 'a/1.jpg').rename(tmp_path / 'a/0.jpg'),
    'linked': link,
  }


@pytest.mark.parametrize(
  'change', ['added', 'class', 'removed', 'renamed', 'linked']
)
def test_the_list_is_kept_until_a_folder_changes(tmp_path, change, monkeypatch):
  touch(tmp_path, 'a/1.jpg', 'a/x/1.jpg', 'b/1.jpg')
  age(tmp_path)
  before = listed(tmp_path)
  walks = []
  walk = folders._walk
  monkeypatch.setattr(
    folders, '_walk', lambda *args: walks.append(1) or walk(*args)
  )
  assert listed(tmp_path) == before
  assert not walks
  changes(tmp_path)[change]()
  assert listed(tmp_path) != before
  assert walks


def test_a_folder_changed_just_now_is_not_trusted(tmp_path):
  touch(tmp_path, 'a/1.jpg')
  assert listed(tmp_path) == ['a/1.jpg']
  stamp = (tmp_path / 'a').stat()
  touch(tmp_path, 'a/2.jpg')
  # As if both had happened within one tick of the clock.
  os.utime(tmp_path / 'a', ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
  assert listed(tmp_path) == ['a/1.jpg', 'a/2.jpg']


def test_a_damaged_list_is_made_again(tmp_path):
  touch(tmp_path, 'a/1.jpg')
  age(tmp_path)
  folders.list_images(tmp_path)
  kept = cache.entry_path('folders', str(tmp_path))
  for content in (b'', b'PK\3\4', kept.read_bytes()[:-20]):
    kept.write_bytes(content)
    assert listed(tmp_path) == ['a/1.jpg']
  np.savez(kept, other=np.zeros(3))
  assert listed(tmp_path) == ['a/1.jpg']


def test_a_missing_folder_is_one_line(tmp_path):
  with pytest.raises(errors.UserError, match='nope: cannot be read: No such'):
    folders.list_images(tmp_path / 'nope')


def test_classes_without_images_are_named(tmp_path, caplog):
  touch(tmp_path, 'a/1.jpg', 'photos/1.heic', '.hidden/x')
  folders.warn_of_strays(folders.list_images(tmp_path))
  assert f'{tmp_path}/photos: no class' in caplog.text
  assert len(caplog.records) == 1
