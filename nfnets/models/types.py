"""Types of the arrays that models take and return."""

import jax

# {module: {name: array}}
Params = dict[str, dict[str, jax.Array]]
State = dict[str, dict[str, jax.Array]]
# {name: array}, see `registry.Model`
Endpoints = dict[str, jax.Array]
