"""What happens to each command of the documents in test_docs.py."""

from tests.experiment import tiny

# The smallest network with published weights stands in for the large ones.
SMALL = 'test_nfnet'
HUB_ID = 'timm/test_nfnet.r160_in1k'
REPLACEMENTS = {
  'timm/dm_nfnet_f0.dm_in1k': HUB_ID,
  "'nfnet_f0', 256, 32": f"'{SMALL}', 32, 2",
  "'nfnet_f0'": f"'{SMALL}'",
}
# Their programs are in the cache after tests/experiment/test_main.py.
TINY = tiny.NETWORK
FEW_STEPS = (
  *tiny.TWELVE_STEPS,
  '--config.eval.every_steps=4',
  '--config.checkpoint.every_steps=4',
)
FINE_TUNING = (
  f'--config.model.name={SMALL}',
  f'--config.init_from={HUB_ID}',
  '--config.data.image_size=32',
  '--config.data.eval_size=32',
  '--config.data.eval_preset=timm',
  '--config.train.batch_size=2',
  '--config.train.dtype=float32',
  '--config.eval.batch_size=4',
  '--config.train.steps=1',
  '--config.optimizer.warmup_epochs=0',
)

# Every command of the documents is in one of these tables.
# Commands that run, on the first page that has them -> what makes them cheap.
RUN: dict[str, tuple[str, ...]] = {
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.train.epochs=5 --workdir=/tmp/short': (*TINY, *FEW_STEPS),
  'python -m nfnets.data folder:/pictures': (),
  'python -m nfnets.data digits --limit=100 --grid=digits.png': (),
  'python -m nfnets.convert runs/digits digits.safetensors --to=nfnets': (),
  'python -m nfnets.predict --weights=runs/digits photo.jpg /pictures': (),
}
# Commands that take longer: they run with -m slow.
RUN_SLOWLY: dict[str, tuple[str, ...]] = {
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --workdir=runs/digits': (*TINY, *FEW_STEPS),
  'python -m nfnets.experiment --workdir=runs/digits': (),
  'python -m nfnets.experiment --workdir=runs/digits'
  ' --config.train.epochs=30': ('--config.train.steps=14',),
  'python -m nfnets.experiment --workdir=runs/digits --mode=eval': (),
  'python -m nfnets.experiment --mode=eval --weights=runs/digits --best': (),
  'python -m nfnets.augment --config=experiments/digits.py --out=grid.png'
  ' --step=0': ('--count=2',),
  'python -m nfnets.experiment --config=experiments/finetune.py'
  ' --config.dataset=folder:/pictures': FINE_TUNING,
  'python -m nfnets.experiment --config=experiments/finetune.py'
  ' --config.dataset=folder:/pictures --config.freeze=all': FINE_TUNING,
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.train.steps=1 --config.train.epochs=0'
  ' --config.optimizer.warmup_epochs=0 --workdir=/tmp/second': TINY,
  'python -m nfnets.studies.recipe --config=experiments/digits.py --seeds=3': (
    '--seeds=1',
    '--only=SAM',
    *TINY,
    *FEW_STEPS,
  ),
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.data.progressive_size=16 --workdir=/tmp/growing': (
    *TINY,
    *FEW_STEPS,
  ),
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.train.early_stopping_patience=3 --workdir=/tmp/early': (
    *TINY,
    *FEW_STEPS,
  ),
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.data.held_out=0.1 --workdir=/tmp/tested': (*TINY, *FEW_STEPS),
  'python -m nfnets.convert runs/digits digits.stablehlo --to=stablehlo': (),
  'python -m nfnets.convert F0_haiku.npz f0_timm --to=timm': (),
  'python -m nfnets.predict --weights=runs/digits --json photo.jpg': (),
}
# Commands of docs/pictures.md: export/test_journey.py runs them in their order,
# with the page's snippets.
JOURNEY: dict[str, tuple[str, ...]] = {
  'python -m nfnets.experiment --config=experiments/small_data.py'
  ' --config.dataset=folder:/pictures --workdir=runs/pictures': (
    '--config.model.width=0.125',
    '--config.model.group_size=16',
    '--config.model.depth=1,1,1,1',
    '--config.model.activation=gelu_erf',  # timm's
    '--config.model.drop_rate=0',
    '--config.model.stochdepth_rate=0',
    '--config.data.image_size=32',
    '--config.data.progressive_size=0',
    '--config.augment.randaugment_layers=0',
    '--config.train.batch_size=16',
    '--config.train.steps=60',
    '--config.train.ema_decay=0.9',
  ),
  'python -m nfnets.experiment --workdir=runs/pictures --mode=eval': (),
  'python -m nfnets.predict --weights=runs/pictures photo.jpg': (),
  'python -m nfnets.predict --weights=runs/pictures --out=results.csv'
  ' /pictures': (),
  'python -m nfnets.convert runs/pictures pictures_timm --to=timm': (),
  'python -m nfnets.convert runs/pictures pictures.onnx --to=onnx'
  ' --preprocess --probabilities': (),
  'python -m nfnets.convert runs/pictures pictures.stablehlo --to=stablehlo'
  ' --probabilities': (),
}
# Commands that are only parsed, besides all that need ImageNet -> the reason.
ONLY_PARSED = {
  'python -m nfnets.studies.agc --dataset=cifar10 --rates 0.1'
  ' --lambdas 0.16 0.04 0.01'
  ' --out=runs/agc_cifar10': 'takes hours',
  'python -m nfnets.studies.agc --quick': 'studies/test_agc.py runs it',
  'python -m nfnets.studies.architecture --dataset=cifar10'
  ' --out=runs/architecture_cifar10': 'takes hours',
  'python -m nfnets.studies.architecture --quick': (
    'studies/test_architecture.py runs parts of it'
  ),
  'python -m nfnets.studies.finetune --pretrain=cifar10'
  ' --dataset=folder:/flowers --out=runs/finetune_flowers': 'takes hours',
  'python -m nfnets.studies.finetune --quick': (
    'studies/test_finetune.py runs it'
  ),
  'python -m nfnets.studies.signal_propagation --seeds=10': 'takes minutes',
  'python -m nfnets.studies.signal_propagation --dataset=cifar10 --size=224'
  ' --images=32 --seeds=10 --out=runs/signal_cifar10': 'needs cifar10',
  'python -m nfnets.convert runs/digits digits.onnx --to=onnx': (
    'needs onnx, which is optional'
  ),
  'python -m nfnets.benchmark nfnet_f6 --size 64 --batch 1 --no-parts': (
    'compiles for a minute'
  ),
  'python -m nfnets.benchmark nfnet_f0 eca_nfnet_l0 --batch 1 4 --vs=onnx': (
    'needs onnx and a runtime, which are optional'
  ),
  'python -m nfnets.benchmark nfnet_f0 --batch 256 --dtype bfloat16 --rounds 3'
  ' --vs=timm': 'needs a GPU',
  'python -m nfnets.benchmark nfnet_f0 --batch 32 --dtype bfloat16 --rounds 3'
  ' --vs=timm --no-parts': 'needs a GPU',
  'python -m nfnets.benchmark nf_resnet50 --size 224 --batch 256'
  ' --dtype bfloat16 --rounds 3 --vs=timm --no-parts': 'needs a GPU',
  'python -m nfnets.benchmark nfnet_f1 --size 224 --batch 128'
  ' --dtype bfloat16 --rounds 3 --no-parts': 'needs a GPU',
  'python -m nfnets.benchmark nfnet_f3 --size 320 --batch 64 --dtype bfloat16'
  ' --rounds 3 --no-parts': 'needs a GPU',
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --workdir=/tmp/digits_gpu': 'needs a GPU',
}
# Commands of other programs -> the reason why they do not run here.
NOT_RUN = {
  './run.sh': 'installs packages; test_run_sh.py runs it with stand-ins',
  './run.sh setup': 'installs packages; test_run_sh.py runs it',
  './run.sh test': 'runs this suite',
  'NFNETS_COMPILATION_CACHE=0 python -m nfnets.experiment'
  ' --config=experiments/nfnet_f0.py --mode=compile --topology=h100'
  ' --config.train.batch_size=1120': 'needs jax[cuda12]',
  'export XLA_PYTHON_CLIENT_MEM_FRACTION=.5': 'sets a variable',
  'JAX_PLATFORMS=cuda JAX_DEFAULT_MATMUL_PRECISION=highest pytest -m'
  " '' -k published_network tests/models/test_nfnet.py": 'needs a GPU',
  'NFNETS_COMPILATION_CACHE=0 python -m nfnets.experiment'
  ' --config=experiments/nfnet_f0.py --mode=compile --topology=v5e:2x2'
  ' --config.train.batch_size=128': 'needs jax[tpu]',
  'NFNETS_VENV=/tmp/newer ./run.sh test': 'runs this suite',
  './run.sh test -m slow -n 0': 'runs the slow tests',
  'pytest -m slow tests/faults': 'runs slow tests',
  'python -m tests.fuzz --minutes=10': (
    'takes ten minutes; fuzz/test_fuzz.py runs parts of it'
  ),
  'pip install -r requirements-peers.txt': 'downloads packages',
  'pip install tensorboard': 'downloads packages',
  'tensorboard --logdir runs/digits': 'is a server',
  'pip install --no-deps -r requirements-timm.txt': 'downloads packages',
  'sbatch launch/slurm.sbatch --config=experiments/nfnet_f1.py'
  ' --workdir=runs/f1': 'needs Slurm; test_launch.py runs it with stand-ins',
  'launch/tpu_vm.sh f1 us-west4-a v5litepod-16 v2-alpha-tpuv5-lite my-bucket'
  ' --config=experiments/nfnet_f1.py --workdir=/tmp/bucket/f1': (
    'needs Cloud TPUs; test_launch.py runs it with stand-ins'
  ),
  'docker build --build-arg PLATFORM=cuda12 --tag=REGISTRY/nfnets .': (
    'needs Docker'
  ),
  'docker push REGISTRY/nfnets': 'needs Docker',
  'docker build --tag=nfnets .': 'needs Docker',
  "docker run '--volume=$PWD/runs:/runs' nfnets --config=experiments/digits.py"
  ' --workdir=/runs/digits': 'needs Docker',
  'kubectl apply -f launch/kubernetes.yaml': 'needs Kubernetes',
  'sky jobs launch launch/skypilot.yaml --env BUCKET=my-bucket': (
    'needs SkyPilot'
  ),
  'until python -m nfnets.experiment --config=experiments/nfnet_f1.py'
  " '--connect_seconds=600;' do sleep '10;' done": 'runs until it succeeds',
}
# Options of other programs that the text mentions.
FOREIGN_OPTIONS = {
  '--build-arg',
  '--gpus',
  '--logdir',
  '--no-deps',
  '--reader',
  '--seed',
  '--requeue',
  '--shm-size',
}
