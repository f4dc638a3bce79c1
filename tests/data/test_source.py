import pickle

from nfnets.data import source


def test_unreadable_errors_can_be_sent_between_processes():
  error = source.UnreadableError('a.jpg', 'empty file')
  copy = pickle.loads(pickle.dumps(error))
  assert (copy.id, copy.reason) == ('a.jpg', 'empty file')
