"""Made-up results and options."""

import argparse
import pathlib

from nfnets.studies import options, results


def result(labels, top1=0.5, diverged=False, **numbers):
  """Returns a result; a diverged one measured nothing."""
  found = {} if diverged else {'top1': top1, **numbers}
  return results.Result(labels, found, diverged, 1.0, {})


def make_options(study, *arguments):
  """Returns the options that a study reads from a command line.

  Args:
    study: the module.
    *arguments: the command line.
  """
  parser = study._parser()
  given = parser.parse_args(arguments)
  return options.Options(
    given.dataset,
    given.seeds or 1,
    given.quick,
    pathlib.Path(given.out or 'out'),
    {},
    given,
  )


def own(**values):
  """Returns options without any of a study's own."""
  return options.Options(
    'digits', 1, False, pathlib.Path('out'), {}, argparse.Namespace(**values)
  )
