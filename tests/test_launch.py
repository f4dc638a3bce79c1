"""launch/ and the Dockerfile: what they start exists, and they restart it."""

import os
import re
import shlex
import stat
import subprocess

import pytest
import yaml

from tests import documents

ROOT = documents.ROOT
LAUNCH = ROOT / 'launch'
MODULE = 'python -m nfnets.experiment'


def load(name):
  return list(yaml.safe_load_all((LAUNCH / name).read_text()))


def pods(job):
  """The pod template's spec of a Job and its only container."""
  spec = job['spec']['template']['spec']
  [container] = spec['containers']
  return spec, container


def check_options(options):
  """Parses options as the program does; settings and files must exist."""
  documents.parse(shlex.join([*MODULE.split(), *options]))


def test_every_file_is_in_the_documentation():
  page = (ROOT / 'docs/hosts.md').read_text()
  for path in LAUNCH.iterdir():
    assert f'launch/{path.name}' in page


def test_kubernetes_starts_one_process_per_pod():
  service, job = load('kubernetes.yaml')
  pod, container = pods(job)
  variables = {x['name']: x for x in container['env']}
  count = job['spec']['completions']
  assert job['spec']['parallelism'] == count
  assert variables['JAX_NUM_PROCESSES']['value'] == str(count)
  assert job['spec']['completionMode'] == 'Indexed'
  # Pod 0 of a Job has the host name JOB-0 in the subdomain of the service.
  host = f'{job["metadata"]["name"]}-0.{pod["subdomain"]}'
  address = variables['JAX_COORDINATOR_ADDRESS']['value']
  assert address.rpartition(':')[0] == host
  assert pod['subdomain'] == service['metadata']['name']
  assert service['spec']['clusterIP'] == 'None'
  assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
  field = variables['JAX_PROCESS_ID']['valueFrom']['fieldRef']['fieldPath']
  assert field == (
    "metadata.annotations['batch.kubernetes.io/job-completion-index']"
  )
  check_options(container['args'])


def test_gke_starts_one_process_per_host():
  [jobset] = load('gke_tpu.yaml')
  [replicated] = jobset['spec']['replicatedJobs']
  pod, container = pods(replicated['template'])
  selector = pod['nodeSelector']
  rows, columns = selector['cloud.google.com/gke-tpu-topology'].split('x')
  chips = container['resources']['limits']['google.com/tpu']
  job = replicated['template']['spec']
  assert job['parallelism'] == job['completions']
  assert job['parallelism'] * chips == int(rows) * int(columns)
  check_options(container['args'])


@pytest.mark.parametrize('name', ['kubernetes.yaml', 'gke_tpu.yaml'])
def test_a_saved_run_does_not_use_up_the_restarts(name):
  last = load(name)[-1]['spec']
  jobs = last.get('replicatedJobs')
  job = jobs[0]['template']['spec'] if jobs else last
  disruption, saved = job['podFailurePolicy']['rules']
  assert disruption['onPodConditions'] == [{'type': 'DisruptionTarget'}]
  assert saved['onExitCodes'] == {'operator': 'In', 'values': [143]}
  action = 'FailJob' if jobs else 'Ignore'
  assert disruption['action'] == saved['action'] == action
  if jobs:
    [rule] = last['failurePolicy']['rules']
    assert rule['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
    assert rule['onJobFailureReasons'] == ['PodFailurePolicy']


def test_skypilot_starts_one_process_per_machine():
  [task] = load('skypilot.yaml')
  program, _, options = task['run'].partition('-m nfnets.experiment')
  assert program == '.venv/bin/python '
  for name, value in task['envs'].items():
    options = options.replace(f'"${name}"', str(value))
  check_options(shlex.split(options.replace('\\\n', '')))
  assert task['setup'].endswith(' ./run.sh setup\n')
  assert '/bucket' in task['file_mounts']
  assert '--workdir=/bucket/' in options


@pytest.mark.parametrize(
  'path',
  [*sorted(LAUNCH.iterdir()), ROOT / 'Dockerfile'],
  ids=lambda path: path.name,
)
def test_commands_in_comments_name_what_exists(path):
  head = re.match(r'(?:#.*\n)+', path.read_text())
  text = re.sub(r'\\\n# *', '', head[0])
  for file in re.findall(r'\b(?:launch|experiments)/[\w.]+', text):
    assert (ROOT / file).exists(), file
  for options in re.findall(r' (--config=\S+(?: --\S+)*)', text):
    check_options(options.split())


def test_the_image_contains_what_it_starts():
  lines = (ROOT / 'Dockerfile').read_text().replace('\\\n', '').splitlines()
  words = [line.split() for line in lines if re.match('[A-Z]+ ', line)]
  copied = {name for line in words if line[0] == 'COPY' for name in line[1:-1]}
  assert copied == {'run.sh', 'requirements.txt', 'nfnets', 'experiments'}
  ignored = (ROOT / '.dockerignore').read_text().split()
  assert {name.removeprefix('!') for name in ignored if '!' in name} == copied
  [entry] = [line for line in lines if line.startswith('ENTRYPOINT')]
  assert yaml.safe_load(entry.removeprefix('ENTRYPOINT ')) == [
    '.venv/bin/python',
    '-m',
    'nfnets.experiment',
  ]
  kinds = re.search(r'PLATFORM is ([\w, ]+)\.', '\n'.join(lines))[1]
  script = (ROOT / 'run.sh').read_text()
  assert kinds.replace(',', '').split() == [
    *re.findall(r'cpu \| cuda12 \| cuda13 \| tpu', script)[0].split(' | ')[:-1],
    'or',
    'tpu',
  ]


def program(folder, name, text):
  """Writes a stand-in for a program that logs its arguments."""
  path = folder / name
  path.write_text(f'#!/bin/bash\necho "{name} $*" >> {folder}/log\n{text}\n')
  path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(folder, *command, **variables):
  """Runs a script with stand-ins first on the PATH."""
  done = subprocess.run(
    ['bash', *command],
    cwd=ROOT,
    env=os.environ
    | {'PATH': f'{folder}:{os.environ["PATH"]}', 'NFNETS_VENV': ''}
    | variables,
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=60,
  )
  log = folder / 'log'
  return done, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
  'status, requeued', [(0, False), (1, False), (134, False), (143, True)]
)
def test_slurm_requeues_what_has_saved(tmp_path, status, requeued):
  program(tmp_path, 'srun', f'echo "$JAX_LOCAL_DEVICE_IDS"; exit {status}')
  program(tmp_path, 'scontrol', '')
  done, log = run(
    tmp_path,
    'launch/slurm.sbatch',
    '--config=a b',
    SLURM_JOB_ID='7',
    SLURM_GPUS_ON_NODE='4',
  )
  assert done.returncode == status
  assert done.stdout == '0,1,2,3\n'
  start = 'srun --kill-on-bad-exit=1 .venv/bin/python -m nfnets.experiment'
  assert log[0] == f'{start} --config=a b'
  assert log[1:] == ['scontrol requeue 7'] * requeued


def test_slurm_asks_for_one_task_per_node_and_a_signal():
  text = (LAUNCH / 'slurm.sbatch').read_text()
  options = set(re.findall(r'^#SBATCH (\S+)', text, re.MULTILINE))
  assert {'--requeue', '--signal=TERM@300', '--ntasks-per-node=1'} <= options


GCLOUD = """
case $4 in
  describe) head -n1 {0}/states; sed -i 1d {0}/states ;;
  ssh) [[ $* != *nfnets.experiment* ]] || {{
    status=$(head -n1 {0}/ends); sed -i 1d {0}/ends; exit $status; }} ;;
esac
"""


def start_tpu(folder, states, ends):
  """Runs tpu_vm.sh where the slice has these states and the runs these ends."""
  (folder / 'states').write_text('\n'.join(states))
  (folder / 'ends').write_text('\n'.join(map(str, ends)))
  program(folder, 'gcloud', GCLOUD.format(folder))
  program(folder, 'git', '')
  options = ('--config=experiments/nfnet_f1.py', '--config.seed=1 2')
  done, log = run(
    folder,
    'launch/tpu_vm.sh',
    *('f1', 'zone-a', 'v5litepod-16', 'v2-alpha-tpuv5-lite', 'bucket'),
    *options,
    RETRY_SECONDS='0',
  )
  calls = [line.split() for line in log if line.startswith('gcloud')]
  return done, [words[4] for words in calls if words[4] != 'describe'], log


def test_a_tpu_slice_is_created_again_after_a_preemption(tmp_path):
  states = ['', 'PREEMPTED', 'PREEMPTED']
  done, calls, log = start_tpu(tmp_path, states, [255, 0])
  assert done.returncode == 0, done.stderr
  assert calls == ['delete', 'create', 'scp', 'ssh', 'ssh'] * 2
  starts = [line for line in log if 'nfnets.experiment' in line]
  assert starts[0] == (
    'gcloud compute tpus tpu-vm ssh f1 --zone=zone-a --quiet --worker=all'
    ' --command=set -e; cd nfnets; .venv/bin/python -m nfnets.experiment'
    ' --config=experiments/nfnet_f1.py --config.seed=1\\ 2'
  )


def test_an_error_on_a_tpu_slice_is_not_repeated_forever(tmp_path):
  done, calls, _ = start_tpu(tmp_path, ['READY'] * 9, [1, 1, 1, 0])
  assert done.returncode == 1
  assert calls == ['scp', 'ssh', 'ssh'] * 3


def test_scripts_have_no_syntax_errors():
  for path in (*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')):
    subprocess.run(['bash', '-n', str(path)], check=True)
