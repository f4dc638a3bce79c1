"""How an evaluation image is resized and cropped."""

from typing import Literal, get_args

EvalPreset = Literal['deepmind', 'deepmind_crop', 'timm']
EVAL_PRESETS: tuple[EvalPreset, ...] = get_args(EvalPreset)
