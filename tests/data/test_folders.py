import errno
import os
import pathlib
import time

import numpy as np
import pytest

from nfnets import errors
from nfnets.data import cache, folders
from tests.data import pictures


def touch(root, *paths):
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b'')


def age(root):
  """Sets every folder's mtime to an hour ago."""
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


def test_links_are_followed_but_not_in_loops(tmp_path):
  touch(tmp_path, 'real/a/1.jpg', 'other/2.jpg')
  (tmp_path / 'real/b').symlink_to(tmp_path / 'other')
  (tmp_path / 'real/a/3.jpg').symlink_to(tmp_path / 'other/2.jpg')
  (tmp_path / 'real/a/gone.jpg').symlink_to(tmp_path / 'nowhere.jpg')
  (tmp_path / 'real/a/up').symlink_to(tmp_path / 'real')
  (tmp_path / 'real/itself').symlink_to(tmp_path / 'real/itself')
  # A broken link is listed: reading it reports the error.
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
def test_listing_is_cached_until_a_change(tmp_path, change, monkeypatch):
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


def test_listing_of_a_just_changed_folder_is_not_reused(tmp_path):
  touch(tmp_path, 'a/1.jpg')
  assert listed(tmp_path) == ['a/1.jpg']
  stamp = (tmp_path / 'a').stat()
  touch(tmp_path, 'a/2.jpg')
  # As if both happened within one tick of the clock.
  os.utime(tmp_path / 'a', ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
  assert listed(tmp_path) == ['a/1.jpg', 'a/2.jpg']


def test_damaged_cache_is_rebuilt(tmp_path):
  touch(tmp_path, 'a/1.jpg')
  age(tmp_path)
  folders.list_images(tmp_path)
  kept = cache.entry_path('folders', str(tmp_path))
  for content in (b'', b'PK\3\4', kept.read_bytes()[:-20]):
    kept.write_bytes(content)
    assert listed(tmp_path) == ['a/1.jpg']
  np.savez(kept, other=np.zeros(3))
  assert listed(tmp_path) == ['a/1.jpg']


def test_missing_folder_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='nope: cannot be read: No such'):
    folders.list_images(tmp_path / 'nope')


@pytest.mark.parametrize(
  'name', ['a.jfif', 'a.JPE', 'a.pjpeg', 'a.apng', 'a.dib', 'a.b.Jpg', '-.tif']
)
def test_endings_of_formats_that_are_read(tmp_path, name):
  touch(tmp_path, name)
  assert listed(tmp_path) == [name]


def left_out(root):
  listing = folders.list_images(root)
  return [line.split('; ')[0] for line in folders.unread_pictures(listing)]


def test_pictures_that_are_left_out_are_counted_by_ending(tmp_path):
  touch(tmp_path, *(f'a/{i}.heic' for i in range(3)), '0.HEIC', 'x/y.jp2')
  touch(tmp_path, 'a/1.jpg', 'a/notes.txt', 'labels.csv', 'Makefile')
  expected = [
    '.heic files are left out: 4, such as 0.HEIC',
    '.jp2 files are left out: 1, such as x/y.jp2',
  ]
  assert left_out(tmp_path) == expected
  age(tmp_path)
  folders.list_images(tmp_path)
  assert left_out(tmp_path) == expected  # From the cache.


@pytest.mark.parametrize(
  'name, kind',
  [
    ('a/photo', 'images without an ending'),
    ('a/photo.jpg_large', '.jpg_large files'),
    ('a/photo.jpg~', '.jpg~ files'),
  ],
)
def test_images_by_their_content_are_left_out_loudly(tmp_path, name, kind):
  touch(tmp_path, name)
  assert not left_out(tmp_path)
  (tmp_path / name).write_bytes(pictures.encode(pictures.photograph()))
  assert left_out(tmp_path) == [f'{kind} are left out: 1, such as {name}']


def test_left_out_files_that_cannot_be_opened(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'broken').symlink_to(tmp_path / 'nowhere')
  assert not left_out(tmp_path)


def test_find_images_warns_once_of_what_it_leaves_out(tmp_path, caplog):
  touch(tmp_path, '1.jpg', '2.heic', '3.heic')
  assert len(found(tmp_path)) == len(found(tmp_path)) == 1
  (record,) = caplog.records
  assert record.message == (
    f'{tmp_path}: .heic files are left out: 2, such as 2.heic; convert them to'
    ' JPEG or PNG'
  )


def found(*paths):
  return [str(path) for path in folders.find_images(paths)]


@pytest.mark.parametrize('hidden', ['._1.jpg', '.ipynb_checkpoints/1.jpg'])
def test_find_images_skips_hidden_files_and_folders(tmp_path, hidden):
  touch(tmp_path, '1.jpg', hidden)
  assert found(tmp_path) == [f'{tmp_path}/1.jpg']
  # Unless the user specifies them.
  (hidden_path,) = tmp_path.glob('.*')
  assert len(found(tmp_path, hidden_path)) == 2


def test_find_images_follows_links_but_not_in_loops(tmp_path):
  touch(tmp_path, 'images/1.jpg', 'other/2.jpg')
  (tmp_path / 'images/linked').symlink_to(tmp_path / 'other')
  (tmp_path / 'other/back').symlink_to(tmp_path / 'images')
  (tmp_path / 'images/itself').symlink_to(tmp_path / 'images/itself')
  assert found(tmp_path / 'images') == [
    f'{tmp_path}/images/1.jpg',
    f'{tmp_path}/images/linked/2.jpg',
  ]


def test_find_images_takes_files_with_any_name(tmp_path):
  touch(tmp_path, 'folder/b.jpg', 'folder/a.jpg', '.hidden', 'photo.heic')
  paths = [tmp_path / name for name in ('photo.heic', 'folder', '.hidden')]
  assert found(*paths) == [
    f'{tmp_path}/photo.heic',
    f'{tmp_path}/folder/a.jpg',
    f'{tmp_path}/folder/b.jpg',
    f'{tmp_path}/.hidden',
  ]


def test_find_images_keeps_the_users_spelling(tmp_path, monkeypatch):
  touch(tmp_path, 'images/1.jpg')
  monkeypatch.chdir(tmp_path)
  paths = [pathlib.Path('images'), pathlib.Path('images/1.jpg')]
  assert found(*paths) == ['images/1.jpg', 'images/1.jpg']


def test_find_images_needs_existing_paths_with_images(tmp_path):
  with pytest.raises(errors.UserError, match='nope.jpg: no such file or fold'):
    found(tmp_path / 'nope.jpg')
  touch(tmp_path, 'notes.txt', '.hidden.jpg')
  with pytest.raises(errors.UserError, match='no image in this folder .*webp'):
    found(tmp_path)
  touch(tmp_path, 'b.heic')
  with pytest.raises(errors.UserError, match='; .heic files are left out: 1, '):
    found(tmp_path)
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  with pytest.raises(errors.UserError, match='loop: cannot be read: Too many'):
    found(tmp_path / 'loop')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every folder')
@pytest.mark.parametrize('below', ['', 'locked'])
def test_find_images_reports_unreadable_folders(tmp_path, below):
  touch(tmp_path, 'images/1.jpg', 'images/locked/2.jpg')
  locked = tmp_path / 'images' / below
  locked.chmod(0)
  try:
    with pytest.raises(errors.UserError) as caught:
      found(tmp_path / 'images')
  finally:
    locked.chmod(0o755)
  assert str(caught.value) == f'{locked}: cannot be read: Permission denied'


def test_an_error_below_a_folder_names_the_subfolder(tmp_path, monkeypatch):
  # As for an unreadable folder, which root cannot create.
  touch(tmp_path, '1.jpg', 'locked/2.jpg')
  locked, scandir = str(tmp_path / 'locked'), os.scandir

  def refuse(path):
    if path == locked:
      raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(errors.UserError) as caught:
    found(tmp_path)
  assert str(caught.value) == f'{locked}: cannot be read: Permission denied'
