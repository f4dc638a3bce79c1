"""Facts about the models: counted sizes, published results, timm's names.

The counts are literals because computing all of them takes minutes. The tests
recompute a few of them every time, and all of them with -m slow.
"""

from typing import NamedTuple

from nfnets.models import config as model_config
from nfnets.models import timm_variants


class Row(NamedTuple):
  """Sizes of a model with 1000 classes."""

  parameters: int
  tensors: int
  features: int  # inputs of the classifier
  macs_train: int  # multiply-accumulates per image at the training size
  macs_test: int  # at the test size


class DeepMindFile(NamedTuple):
  """A file in DeepMind's bucket `dm-nfnets` on Google Cloud Storage."""

  name: str
  md5: str


class Published(NamedTuple):
  """A trained network published by its authors."""

  top1: float  # ImageNet validation accuracy in %, at the test size
  hub_tag: str  # timm's tag on the Hugging Face hub, e.g. 'dm_in1k'
  file: DeepMindFile | None = None


ROWS: dict[str, Row] = {
  'nfnet_f0': Row(71489284, 233, 3072, 6977003520, 12384198656),
  'nfnet_f0+': Row(118824516, 233, 4096, 10999005184, 19520208896),
  'nfnet_f1': Row(132634256, 437, 3072, 17437921280, 35538968576),
  'nfnet_f1+': Row(220357008, 437, 4096, 27210002432, 55445012480),
  'nfnet_f2': Row(193779228, 641, 3072, 33139318784, 62592978944),
  'nfnet_f2+': Row(321889500, 641, 4096, 51508625408, 97275441152),
  'nfnet_f3': Row(254924200, 845, 3072, 67944292352, 114763501568),
  'nfnet_f3+': Row(423421992, 845, 4096, 105382952960, 177986514944),
  'nfnet_f4': Row(316069172, 1049, 3072, 121122250752, 215241187328),
  'nfnet_f4+': Row(524954484, 1049, 4096, 187619000320, 333389742080),
  'nfnet_f5': Row(377214144, 1253, 3072, 169498382336, 289757106176),
  'nfnet_f5+': Row(626486976, 1253, 4096, 262327709696, 448426520576),
  'nfnet_f6': Row(438359116, 1457, 3072, 228292861952, 377280307200),
  'nfnet_f6+': Row(728019468, 1457, 4096, 353101611008, 583517274112),
  'nfnet_f7': Row(499504088, 1661, 3072, 298476539904, 478781640704),
  'nfnet_f7+': Row(829551960, 1661, 4096, 461436497920, 740157796352),
  'nf_resnet50': Row(25557048, 177, 2048, 4089184256, 4089184256),
  'nf_resnet101': Row(44549193, 347, 2048, 7801405440, 7801405440),
  'nf_resnet152': Row(60192858, 517, 2048, 11513626624, 11513626624),
  'nf_resnet200': Row(64673898, 677, 2048, 15007481856, 15007481856),
  'nf_resnet288': Row(146460552, 977, 2048, 21558460416, 21558460416),
  'nf_resnet600': Row(300646896, 2017, 2048, 44268519424, 44268519424),
  'skipinit_resnet50': Row(25530424, 123, 2048, 4089184256, 4089184256),
  'skipinit_resnet101': Row(44496457, 242, 2048, 7801405440, 7801405440),
  'skipinit_resnet152': Row(60117082, 361, 2048, 11513626624, 11513626624),
  'skipinit_resnet200': Row(64585834, 473, 2048, 15007481856, 15007481856),
  'skipinit_resnet288': Row(146318344, 683, 2048, 21558460416, 21558460416),
  'skipinit_resnet600': Row(300354928, 1411, 2048, 44268519424, 44268519424),
  'nf_regnet_b0': Row(8595372, 244, 960, 327149536, 443672488),
  'nf_regnet_b1': Row(10019208, 300, 960, 562813864, 733522624),
  'nf_regnet_b2': Row(13785904, 328, 1064, 897946824, 1145075772),
  'nf_regnet_b3': Row(18136667, 370, 1152, 1621118328, 1999206624),
  'nf_regnet_b4': Row(29315830, 440, 1344, 3106822976, 4467269888),
  'nf_regnet_b5': Row(48707138, 552, 1536, 7496250368, 11097831488),
  'nf_regnet_b6': Row(70045805, 622, 1728, 14183144848, 20136927784),
  'nf_regnet_b7': Row(101743204, 748, 1920, 27283033088, 38161054592),
  'nf_regnet_b8': Row(142314441, 846, 2112, 51805389336, 63719342484),
  'resnet50': Row(25549352, 153, 2048, 4089184256, 4089184256),
  'resnet101': Row(44541480, 306, 2048, 7801405440, 7801405440),
  'resnet152': Row(60185128, 459, 2048, 11513626624, 11513626624),
  'resnet200': Row(64666152, 603, 2048, 15007481856, 15007481856),
  'resnet288': Row(146452776, 873, 2048, 21558460416, 21558460416),
  'resnet600': Row(300639016, 1809, 2048, 44268519424, 44268519424),
  'fixup_resnet50': Row(25504026, 169, 2048, 4089184256, 4089184256),
  'fixup_resnet101': Row(44444049, 339, 2048, 7801405440, 7801405440),
  'fixup_resnet152': Row(60041736, 509, 2048, 11513626624, 11513626624),
  'fixup_resnet200': Row(64498296, 669, 2048, 15007481856, 15007481856),
  'fixup_resnet288': Row(146176842, 969, 2048, 21558460416, 21558460416),
  'fixup_resnet600': Row(300064290, 2009, 2048, 44268519424, 44268519424),
  'nfnet_l0': Row(35074488, 221, 2304, 4255094784, 7025301504),
  'eca_nfnet_l0': Row(24143924, 185, 2304, 4244258560, 7014465280),
  'eca_nfnet_l1': Row(41407728, 341, 3072, 9428610560, 14730391040),
  'eca_nfnet_l2': Row(56722348, 497, 3072, 20682773760, 29781742848),
  'eca_nfnet_l3': Row(72036968, 653, 3072, 32227830784, 52201667584),
  'test_nfnet': Row(383080, 93, 192, 285058560, 285058560),
  'timm_nf_regnet_b0': Row(8764288, 228, 960, 351345536, 621052288),
  'timm_nf_regnet_b1': Row(10223984, 280, 960, 790689280, 999308928),
  'timm_nf_regnet_b2': Row(14314608, 306, 1064, 933524352, 1190532992),
  'timm_nf_regnet_b3': Row(18593832, 345, 1152, 1623749376, 2002385024),
  'timm_nf_regnet_b4': Row(30210816, 410, 1344, 3219430016, 4629161856),
  'timm_nf_regnet_b5': Row(49741728, 514, 1536, 7830020224, 11576539968),
  'timm_nf_resnet26': Row(15995176, 89, 2048, 2342256640, 2342256640),
  'timm_nf_resnet50': Row(25557032, 161, 2048, 5340348416, 6758334464),
  'timm_nf_resnet101': Row(44549160, 314, 2048, 7801405440, 7801405440),
  'timm_nf_seresnet26': Row(17395976, 121, 2048, 2343649280, 2343649280),
  'timm_nf_seresnet50': Row(28088024, 225, 2048, 4091699200, 4091699200),
  'timm_nf_seresnet101': Row(49326872, 446, 2048, 7806148608, 7806148608),
  'timm_nf_ecaresnet26': Row(15995220, 97, 2048, 2342303232, 2342303232),
  'timm_nf_ecaresnet50': Row(25557118, 177, 2048, 4089272064, 4089272064),
  'timm_nf_ecaresnet101': Row(44549331, 347, 2048, 7801580288, 7801580288),
}

# Accuracies: the NFNets' from the paper, all others from timm's results. F6 was
# trained with SAM. F7 and the wider '+' networks were never published.
#
# References:
#   Brock et al, `High-Performance Large-Scale Image Recognition Without
#   Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, table 3.
PUBLISHED = {
  'nfnet_f0': Published(
    83.6,
    'dm_in1k',
    DeepMindFile('F0_haiku.npz', '0a41039da1cb43adf47f1b7d86ddfe0f'),
  ),
  'nfnet_f1': Published(
    84.7,
    'dm_in1k',
    DeepMindFile('F1_haiku.npz', 'c9126bbfaf855f9ddb7ff3b902558781'),
  ),
  'nfnet_f2': Published(
    85.1,
    'dm_in1k',
    DeepMindFile('F2_haiku.npz', '7a018d8d1498020e2f5a8719a1e7f53f'),
  ),
  'nfnet_f3': Published(
    85.7,
    'dm_in1k',
    DeepMindFile('F3_haiku.npz', 'd8e1e78d26db659c486150dbaccbe78a'),
  ),
  'nfnet_f4': Published(
    85.9,
    'dm_in1k',
    DeepMindFile('F4_haiku.npz', 'f5974a7e3388aa81b91a9f1403e759a4'),
  ),
  'nfnet_f5': Published(
    86.0,
    'dm_in1k',
    DeepMindFile('F5_haiku.npz', '8639e925de951030651ac775b9f915c3'),
  ),
  'nfnet_f6': Published(
    86.5,
    'dm_in1k',
    DeepMindFile('F6_haiku.npz', 'b16cca40ac1ecec2bd5e3273866da0c1'),
  ),
  'nfnet_l0': Published(82.766, 'ra2_in1k'),
  'eca_nfnet_l0': Published(82.590, 'ra2_in1k'),
  'eca_nfnet_l1': Published(84.062, 'ra2_in1k'),
  'eca_nfnet_l2': Published(84.710, 'ra3_in1k'),
  'timm_nf_regnet_b1': Published(79.368, 'ra2_in1k'),
  'timm_nf_resnet50': Published(80.658, 'ra2_in1k'),
  'test_nfnet': Published(47.634, 'r160_in1k'),
}

# Equal shapes are not enough for an entry: timm's NF-ResNets and NF-RegNets
# compute something different from the published networks of the same size.
_TIMM_NAMES = {
  **{f'nfnet_f{number}': f'dm_nfnet_f{number}' for number in range(7)},
  **{
    name: name.removeprefix(timm_variants.PREFIX)
    for name in timm_variants.VARIANTS
  },
}
_OUR_NAMES = {timms: ours for ours, timms in _TIMM_NAMES.items()}


def timm_name(name: str) -> str | None:
  """Returns timm's name for a model of ours, or None if timm lacks it."""
  return _TIMM_NAMES.get(name)


def our_name(timm_name: str) -> str | None:
  """Returns our name for a model of timm's, or None if we lack it."""
  return _OUR_NAMES.get(timm_name)


def published_weights(name: str) -> list[str]:
  """Lists the published weights of a model.

  Args:
    name: our name of the model.

  Returns:
    The name of DeepMind's file, if any, and the Hugging Face id of timm's:
    ['F0_haiku.npz', 'timm/dm_nfnet_f0.dm_in1k']. Empty if nothing is published.
  """
  published = PUBLISHED.get(name)
  if published is None:
    return []
  files = [published.file.name] if published.file else []
  return [*files, f'timm/{timm_name(name)}.{published.hub_tag}']


def eval_preset(config: model_config.ModelConfig) -> str:
  """Returns the preset with which the model's authors crop test images.

  Args:
    config: the model's configuration.

  Returns:
    A preset of `data.crops.eval_crop`.
  """
  if config.name in timm_variants.VARIANTS:
    return 'timm'
  return 'deepmind' if config.family == 'NFNet' else 'deepmind_crop'


def find(tensors: int, parameters: int) -> list[str]:
  """Returns the models with these sizes.

  Args:
    tensors: number of arrays, without the classifier's two.
    parameters: number of parameters, without the classifier's.
  """
  return [
    name
    for name, row in ROWS.items()
    if row.tensors - 2 == tensors
    and row.parameters - 1000 * (row.features + 1) == parameters
  ]
