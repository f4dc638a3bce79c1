"""NFNet-F4+ pre-trained on a large labelled data set of your own.

  python -m nfnets.experiment --config=experiments/pretrain_nfnet_f4plus.py
      --config.dataset=folder:/pictures

Recipe of arXiv 2102.06171, appendix A.5, for 300 million private images: 224
pixels, 20 epochs of batch 4096, weight decay 1e-6 (the paper advises to start
from 0), about 830 ms a step at 32 images per TPUv3 core. After fine-tuning:
89.2% top-1 on ImageNet (Table 5). Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  config = recipes.pretraining(
    'nfnet_f4+', epochs=20.0, batch_size=4096, weight_decay=1e-6
  )
  config.dataset = 'folder:'
  return config
