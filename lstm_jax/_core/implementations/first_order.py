"""An identity that lets reverse mode of first order through and refuses every other transformation by name.

    value        identity    differentiated: noted, and its tangent below; mapped: refused
    noted        identity    differentiated: refused, it would be the second time; mapped: refused
    tangent      refused when it is computed, which forward mode does and reverse mode does not
    cotangent    identity    what the tangent is transposed to; differentiated or mapped: refused

A library's LSTM has two programs, forward and backward, and no rule for anything else; what JAX says of that names its
own primitives, and no way out.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

VMAP, FORWARD, SECOND = "vmap", "forward-mode derivatives (jvp, jacfwd)", "second derivatives"


def first_order(tree: Any, name: str) -> Any:
    """The same arrays; between those of a call and those of its result there is one derivative backwards, nothing else.

    A library's arguments pass through it, and its results, whose cotangents may be mapped or differentiated too.

    Args:
        tree: of arrays.
        name: of the implementation, for the error.
    Raises:
        ValueError: of what is computed from the result, when it is mapped, or differentiated in another way.
    """
    return jax.tree.map(partial(value_p.bind, name=name), tree)


def _refuse(what: str, name: str) -> NoReturn:
    raise ValueError(
        f"implementation: got {name!r}, which has no {what}; want None, 'scan' or 'mosaic_gpu', which have all"
    )


def _identity(kind: str) -> Primitive:
    primitive = Primitive(f"first_order_{kind}")
    primitive.def_impl(lambda array, name: array)
    primitive.def_abstract_eval(lambda array, name: array)
    mlir.register_lowering(primitive, lambda ctx, array, name: [array])
    batching.primitive_batchers[primitive] = lambda arrays, axes, name: _refuse(VMAP, name)
    ad.primitive_jvps[primitive] = lambda primals, tangents, name: _refuse(SECOND, name)
    return primitive


value_p, noted_p, tangent_p, cotangent_p = map(_identity, ("value", "noted", "tangent", "cotangent"))


def _differentiate(primals: Sequence[jax.Array], tangents: Sequence, name: str) -> tuple:
    tangent = tangents[0] if type(tangents[0]) is ad.Zero else tangent_p.bind(tangents[0], name=name)
    return noted_p.bind(primals[0], name=name), tangent


def _transpose(cotangent: Any, tangent: Any, name: str) -> list[jax.Array]:
    return [cotangent_p.bind(cotangent, name=name)]


ad.primitive_jvps[value_p] = _differentiate
ad.deflinear2(tangent_p, _transpose)
tangent_p.def_impl(lambda array, name: _refuse(FORWARD, name))
batching.primitive_batchers[tangent_p] = lambda arrays, axes, name: _refuse(FORWARD, name)
mlir.register_lowering(tangent_p, lambda ctx, array, name: _refuse(FORWARD, name))
