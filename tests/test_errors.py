import pytest

from nfnets import errors


@pytest.mark.parametrize(
  'name, near',
  [
    ('nfnet_F0', 'nfnet_f0'),
    ('NFNET_F0', 'nfnet_f0'),
    ('nfnet_l1', 'nfnet_l0'),
    ('Digits', None),
  ],
)
def test_nearest_ignores_case(name, near):
  assert errors.nearest(name, ['nfnet_l0', 'nfnet_f0', 'resnet50']) == near


def test_hint():
  assert errors.hint('Digit', ['digits']) == ", did you mean 'digits'?"
  assert errors.hint('Digit', []) == ''


def test_messages_are_printable():
  assert str(errors.UserError('a\nb\x1b[2J')) == 'a\\nb\\x1b[2J'
