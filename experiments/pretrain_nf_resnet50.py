"""NF-ResNet-50 pre-trained on a large labelled data set of your own.

  python -m nfnets.experiment --config=experiments/pretrain_nf_resnet50.py
      --config.dataset=folder:/pictures

Recipe of arXiv 2102.06171, appendix A.5, for 300 million private images: 224
pixels, 10 epochs of batch 1024, learning rate 0.4, weight decay 1e-5. After
fine-tuning: 79.5% top-1 on ImageNet at 224 pixels, where batch normalization
has 78.1% (Table 4). Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  config = recipes.pretraining(
    'nf_resnet50', epochs=10.0, batch_size=1024, weight_decay=1e-5
  )
  config.dataset = 'folder:'
  return config
