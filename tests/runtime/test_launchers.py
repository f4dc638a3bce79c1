"""The processes that each launcher starts, from faked environments."""

import os
import sys

import pytest
from jax._src import cloud_tpu_init, clusters
from jax._src.clusters import cloud_tpu_cluster, k8s_cluster

from nfnets import errors
from nfnets.runtime import launchers
from tests.runtime import environments

processes = launchers.Processes
PREFIXES = 'SLURM OMPI PMI TPU MEGASCALE KUBERNETES JOB_ JAX_ SKYPILOT'.split()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  """Removes what launchers set; JAX's only ways to a network fail."""
  for name in list(os.environ):
    if name.startswith(tuple(PREFIXES)):
      monkeypatch.delenv(name)

  def fail(*_):
    raise AssertionError('network')

  monkeypatch.setattr(cloud_tpu_cluster, 'get_metadata', fail)


@pytest.fixture(name='fake')
def fake_environment(monkeypatch):
  def set_all(*environments, **variables):
    for environment in (*environments, variables):
      for name, value in environment.items():
        monkeypatch.setenv(name, value)

  return set_all


@pytest.fixture(name='tpu_vm')
def on_a_tpu_vm(monkeypatch):
  for module in (cloud_tpu_init, cloud_tpu_cluster):
    monkeypatch.setattr(module, 'running_in_cloud_tpu_vm', True)


def find(coordinator=None, num_processes=None, process_id=None):
  return launchers.find(coordinator, num_processes, process_id, 1)


def test_a_plain_machine_trains_alone(capsys):
  assert find() is None
  assert capsys.readouterr() == ('', '')


def test_flags():
  assert find('host:1', 2, 0) == processes('host:1', 2, 0, 'deactivate')


def test_variables_and_flags_over_them(fake):
  fake(JAX_COORDINATOR_ADDRESS='a:1', JAX_NUM_PROCESSES='4', JAX_PROCESS_ID='0')
  assert find() == processes('a:1', 4, 0, 'deactivate')
  assert find('b:2', 3, 2) == processes('b:2', 3, 2, 'deactivate')
  assert find(process_id=3) == processes('a:1', 4, 3, 'deactivate')


@pytest.mark.parametrize(
  'given, missing',
  [
    (('host:1', None, None), '--num_processes, --process_id missing'),
    (('host:1', 2, None), '--process_id missing'),
    ((None, 2, 0), '--coordinator missing'),
  ],
)
def test_incomplete_arguments_are_refused(given, missing):
  with pytest.raises(errors.UserError, match=missing):
    find(*given)


@pytest.mark.parametrize('index', [2, -1])
def test_an_index_out_of_range_is_refused(index):
  with pytest.raises(
    errors.UserError, match=f'process {index} of 2: .* 0 to 1'
  ):
    find('host:1', 2, index)


def test_a_malformed_variable_is_refused(fake):
  fake(JAX_NUM_PROCESSES='two')
  with pytest.raises(errors.UserError, match="JAX_NUM_PROCESSES is 'two'"):
    find()


@pytest.mark.parametrize(
  'environment',
  [
    environments.SLURM,
    environments.OPEN_MPI,
    environments.SKYPILOT,
    environments.KUBERNETES,
  ],
)
def test_one_process_is_alone_under_any_launcher(fake, environment):
  fake(environment)
  assert find(num_processes=1) is None


def test_slurm(fake):
  fake(environments.SLURM)
  # 61440 + the job's number modulo 4096.
  assert find() == processes('node07:61441', 4, 3, 'slurm')
  assert find('a:1', 2, 0) == processes('a:1', 2, 0, 'slurm')
  fake(JAX_COORDINATOR_ADDRESS='a:1')
  assert find() == processes('a:1', 4, 3, 'slurm')


def test_slurm_with_one_task(fake, capsys):
  one = {'SLURM_NTASKS': '1', 'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'}
  fake(environments.SLURM, one)
  assert find() is None
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
  'variables, tasks',
  [
    ({'SLURM_NTASKS': '2'}, 2),
    ({'SLURM_NTASKS': '2', 'SLURM_JOB_NUM_NODES': '1'}, 2),
    ({'SLURM_JOB_NUM_NODES': '8'}, 8),  # salloc --nodes=8
    # salloc with use_interactive_step
    (
      {**environments.SLURM, 'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'},
      4,
    ),
  ],
)
def test_slurm_without_srun_trains_alone_with_a_note(
  fake, capsys, variables, tasks
):
  fake(variables, SLURM_JOB_ID='1')
  assert find() is None
  assert capsys.readouterr().err == (
    f'note: Slurm allocated {tasks} tasks, but srun did not start this process:'
    ' it trains alone. Type srun before the command to use them all\n'
  )


def test_malformed_values_are_no_traceback(fake):
  fake(SLURM_JOB_ID='x', SLURM_NTASKS='2(x2)', OMPI_COMM_WORLD_SIZE='')
  assert find() is None
  fake(environments.SLURM, SLURM_NTASKS='abc')
  with pytest.raises(errors.UserError, match=r"of SlurmCluster .* 'abc'\): "):
    find()
  fake(environments.SKYPILOT, SKYPILOT_NUM_NODES='many')
  with pytest.raises(errors.UserError, match=r"of SkyPilot .* 'many'\): give"):
    find()


def test_open_mpi(fake):
  fake(environments.OPEN_MPI)
  # 65535 - 4095 + 8192 / 4096
  assert find() == processes('10.1.2.3:61442', 2, 1, 'ompi')


@pytest.mark.parametrize('variable', ['OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'])
def test_a_launcher_that_jax_does_not_know_is_an_error(fake, variable):
  fake({variable: '2'})
  with pytest.raises(errors.UserError, match=f'{variable}=2 shows .*: give'):
    find()
  assert find('a:1', 2, 1) == processes('a:1', 2, 1, 'deactivate')


def test_skypilot(fake):
  fake(environments.SKYPILOT)
  assert find() == processes('10.0.0.5:8476', 3, 2, 'deactivate')
  fake(JAX_COORDINATOR_PORT='99')
  assert find() == processes('10.0.0.5:99', 3, 2, 'deactivate')
  fake(SKYPILOT_NUM_NODES='1')
  assert find() is None


def test_skypilot_takes_precedence_over_what_it_uses(fake):
  fake(environments.SLURM, environments.SKYPILOT)
  assert find() == processes('10.0.0.5:8476', 3, 2, 'deactivate')


def test_skypilot_without_addresses(fake, monkeypatch):
  fake(environments.SKYPILOT)
  monkeypatch.delenv('SKYPILOT_NODE_IPS')
  with pytest.raises(errors.UserError, match=r"'SKYPILOT_NODE_IPS'\): give"):
    find()


def test_gke_tpus(fake, tpu_vm, monkeypatch):
  fake(environments.GKE)
  monkeypatch.setattr(
    cloud_tpu_cluster, 'get_metadata', lambda key: ('not found', 404)
  )
  assert find() == processes('localhost:8482', 2, 1, 'deactivate')


def test_multislice(fake, tpu_vm):
  fake(environments.GKE, MEGASCALE_NUM_SLICES='3', MEGASCALE_SLICE_ID='2')
  fake(MEGASCALE_COORDINATOR_ADDRESS='localhost:1')
  assert find() == processes('localhost:8482', 6, 5, 'deactivate')


def test_tpu_vms_by_the_metadata_server(fake, tpu_vm, monkeypatch):
  metadata = {
    'agent-worker-number': '1',
    'worker-network-endpoints': '0:0:127.0.0.1,1:1:127.0.0.2',
    'tpu-env': 'ACCELERATOR_TYPE: v4-16',
  }
  monkeypatch.setattr(
    cloud_tpu_cluster, 'get_metadata', lambda key: (metadata[key], 200)
  )
  assert find() == processes('127.0.0.1:8482', 2, 1, 'deactivate')
  fake(environments.SKYPILOT)  # which numbers the hosts in another order
  assert find() == processes('127.0.0.1:8482', 2, 1, 'deactivate')
  metadata['worker-network-endpoints'] = '0:0:127.0.0.1'
  metadata['agent-worker-number'] = '0'
  assert find() is None


@pytest.mark.parametrize(
  'name', ['TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES']
)
@pytest.mark.parametrize('hosts', ['', 'local', 'localhost'])
def test_a_notebook_with_a_tpu_contacts_nothing(fake, tpu_vm, name, hosts):
  fake({name: hosts}, TPU_WORKER_ID='0')
  assert find() is None


def test_a_tpu_vm_without_metadata_contacts_nothing(fake, tpu_vm):
  fake(TPU_SKIP_MDS_QUERY='1')
  assert find() is None


def test_a_metadata_server_that_fails_is_an_error(tpu_vm, monkeypatch):
  def fail(key):
    raise ConnectionError(f'no answer\nfor {key}')

  monkeypatch.setattr(cloud_tpu_cluster, 'get_metadata', fail)
  with pytest.raises(errors.UserError, match='of GceTpuCluster were not') as e:
    find()
  assert 'no answer for agent-worker-number' in str(e.value)


def test_tpu_hosts_without_libtpu_are_an_error(fake):
  fake(environments.GKE)
  with pytest.raises(errors.UserError, match='TPU_WORKER_HOSTNAMES=localhost,'):
    find()


@pytest.fixture(name='kubernetes')
def fake_kubernetes(monkeypatch):
  environments.set_up_kubernetes(monkeypatch)


def test_kubernetes(fake, kubernetes):
  fake(environments.KUBERNETES)
  assert find() == processes('train-0.set:55527', 3, 1, 'deactivate')


def test_any_other_pod_trains_alone(fake, kubernetes, monkeypatch, recwarn):
  fake(environments.KUBERNETES)
  monkeypatch.delenv('JOB_COMPLETION_INDEX')
  monkeypatch.setattr(k8s_cluster.K8sCluster, '_job', None)
  assert find() is None
  assert not recwarn


def test_kubernetes_without_its_client_is_an_error(fake, monkeypatch, recwarn):
  monkeypatch.setitem(sys.modules, 'kubernetes', None)
  fake(environments.KUBERNETES)
  with pytest.raises(errors.UserError, match='JOB_COMPLETION_INDEX=1 shows'):
    find()
  assert not recwarn
  fake(JAX_COORDINATOR_ADDRESS='a:1', JAX_NUM_PROCESSES='2', JAX_PROCESS_ID='1')
  assert find() == processes('a:1', 2, 1, 'deactivate')


@pytest.mark.parametrize(
  'environment',
  [
    environments.SLURM,
    environments.OPEN_MPI,
    environments.GKE,
    environments.KUBERNETES,
  ],
)
def test_a_jax_without_its_detectors_detects_by_itself(
  fake, monkeypatch, environment
):
  monkeypatch.delattr(clusters.ClusterEnv, '_cluster_types')
  assert find() is None
  fake(environment)
  assert find() == processes(None, None, None, None)
  assert find('a:1', 2, 0) == processes('a:1', 2, 0, 'deactivate')
