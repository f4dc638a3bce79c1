"""What launchers set, for one process of several."""

import os
import sys
import types

from jax._src.clusters import k8s_cluster

SLURM = {
  'SLURM_JOB_ID': '4097',
  'SLURM_NTASKS': '4',
  'SLURM_PROCID': '3',
  'SLURM_LOCALID': '1',
  'SLURM_STEP_NODELIST': 'node[07-08]',
  'SLURM_STEP_NUM_TASKS': '4',
  'SLURM_STEP_NUM_NODES': '2',
}
OPEN_MPI = {
  'OMPI_MCA_orte_hnp_uri': '8192.0;tcp://10.1.2.3,10.1.2.4:34911',
  'OMPI_COMM_WORLD_SIZE': '2',
  'OMPI_COMM_WORLD_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_RANK': '0',
}
SKYPILOT = {
  'SKYPILOT_NUM_NODES': '3',
  'SKYPILOT_NODE_RANK': '2',
  'SKYPILOT_NODE_IPS': '10.0.0.5\n10.0.0.6\n10.0.0.7',
}
GKE = {
  'TPU_SKIP_MDS_QUERY': 'true',
  'TPU_WORKER_HOSTNAMES': 'localhost,w-1',
  'TPU_WORKER_ID': '1',
}
KUBERNETES = {
  'KUBERNETES_SERVICE_HOST': '10.0.0.1',
  'JOB_COMPLETION_INDEX': '1',
  'HOSTNAME': 'localhost',
}
OF_JAX = (SLURM, OPEN_MPI, GKE, KUBERNETES)
ALL = (*OF_JAX, SKYPILOT)


def set_up_kubernetes(monkeypatch):
  """Fakes the client of an API server that has a Job of three pods."""
  metadata = types.SimpleNamespace(
    name='train', labels={'jobset.sigs.k8s.io/jobset-name': 'set'}
  )
  job = types.SimpleNamespace(
    metadata=metadata, spec=types.SimpleNamespace(parallelism=3)
  )
  pod = types.SimpleNamespace(spec=types.SimpleNamespace(subdomain=None))
  controller = types.SimpleNamespace(kind='Job')
  monkeypatch.setitem(sys.modules, 'kubernetes', types.SimpleNamespace())
  cluster = k8s_cluster.K8sCluster
  answers = {'_job': job, '_pod': pod, '_controller': controller}
  for name, answer in answers.items():
    monkeypatch.setattr(cluster, name, classmethod(lambda _, a=answer: a))
  monkeypatch.setattr(
    cluster,
    'is_env_present',
    classmethod(lambda _: 'KUBERNETES_SERVICE_HOST' in os.environ),
  )
  monkeypatch.setattr(k8s_cluster.socket, 'gethostbyname', lambda _: '10.0.0.9')
  monkeypatch.setattr(k8s_cluster.time, 'sleep', lambda _: None)
