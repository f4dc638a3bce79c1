"""Runs `nfnets.experiment.preview` as `python -m nfnets.augment`.

The preview reads the settings of an experiment, which only `nfnets.experiment`
may do; nothing else in this folder depends on it.
"""

from nfnets import cli

if __name__ == '__main__':
  cli.run_program('nfnets.experiment.preview')
