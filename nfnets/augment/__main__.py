"""python -m nfnets.augment: see `nfnets.experiment.preview`.

The program reads settings, which only `nfnets.experiment` does; nothing in this
folder imports it.
"""

from nfnets import cli

if __name__ == '__main__':
  cli.run_program('nfnets.experiment.preview')
