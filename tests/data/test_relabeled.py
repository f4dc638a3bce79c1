import pickle

import pytest

from nfnets import errors
from nfnets.data import folder_source, relabeled
from tests.data import pictures


def test_labels_are_replaced_and_all_else_stays(tmp_path):
  pictures.write_class_folders(tmp_path, range(20))
  source = folder_source.load_folder('name', str(tmp_path), 'all')
  known = ('ten', *map(str, range(9, -1, -1)))
  labels = [known.index(name) for name in source.class_names]
  new = relabeled.RelabeledSource(source, labels, known)
  assert (new.name, new.split, len(new)) == ('name', 'all', 20)
  assert new.class_names == known and new.num_classes == 11
  for index in range(20):
    old, example = source[index], new[index]
    assert example['label'] == 10 - old['label']
    assert {**example, 'label': old['label']} == old
  assert pickle.loads(pickle.dumps(new))[3] == new[3]


class Wrong(list):
  name, num_classes, split, class_names = 'wrong', 2, 'test', ('a', 'b')


@pytest.mark.parametrize('label', [-1, 2])
def test_a_label_out_of_range_stays_an_error(label):
  wrong = Wrong([{'image': b'', 'label': label, 'id': 'file:7'}])
  new = relabeled.RelabeledSource(wrong, (2, 1), ('c', 'b', 'a'))
  with pytest.raises(errors.UserError, match=f'file:7: label {label} is not'):
    new[0]
