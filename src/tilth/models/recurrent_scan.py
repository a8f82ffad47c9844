"""The steps of `tilth.models.recurrent_cells`, fused: what autograd does one by one, in bulk.

Forwards, each step is one product and a few operations in place. Backwards, everything that does
not depend on the later steps is computed for all steps at once, so that a step is again one product
and a few operations in place; the gradients of the weights are one product each at the end.

A sequence that ends early is simply run on into its padding: nothing reads what comes of it, no
gradient enters there, and the state is picked up at its length.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["at_lengths", "scan"]

# For s = sigmoid(x) or tanh(x): grad * s (1 - s), grad * (1 - s^2), in one pass.
through_sigmoid = torch.ops.aten.sigmoid_backward
through_tanh = torch.ops.aten.tanh_backward


def scan(
    cell: str,
    lengths: Int64[Tensor, "b"] | None,
    inputs: Float[Tensor, "b t c"],
    hidden: Float[Tensor, "b p"],
    memory: Float[Tensor, "b h"] | None,
    input_weights: Float[Tensor, "rows c"],
    hidden_weights: Float[Tensor, "rows p"],
    bias: Float[Tensor, "rows"],
    candidate_bias: Float[Tensor, "h"] | None,
    projection: Float[Tensor, "p h"] | None,
) -> tuple[Float[Tensor, "b t p"], Float[Tensor, "b p"], Float[Tensor, "b h"] | None]:
    """Outputs, zero beyond each length, and the state at it, of a sequence of steps of ``cell``."""
    drives = linear(inputs.transpose(0, 1).contiguous(), input_weights, bias)
    if cell == "gru":
        outputs = GruScan.apply(drives, hidden, hidden_weights, candidate_bias)
    elif memory is None:
        outputs = ElmanScan.apply(drives, hidden, hidden_weights, cell == "elman-relu", lengths)
    else:
        outputs, memories = MemoryScan.apply(drives, hidden, memory, hidden_weights, projection)
        memory = at_lengths(memories, memory, lengths)[1]
    return *at_lengths(outputs, hidden, lengths), memory


def at_lengths(
    values: Float[Tensor, "t b c"], start: Float[Tensor, "b c"], lengths: Int64[Tensor, "b"] | None
) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b c"]]:
    """Batch first and zero beyond each length; and the value at it, ``start`` for a length of 0."""
    if lengths is None:
        return values.transpose(0, 1), values[-1]
    steps, batch = values.shape[:2]
    alive = torch.arange(steps, device=values.device) < lengths[:, None]
    values = values.transpose(0, 1)
    last = values[torch.arange(batch, device=values.device), (lengths - 1).clamp(min=0)]
    last = torch.where(lengths[:, None] > 0, last, start)
    return torch.where(alive[..., None], values, 0), last


class ElmanScan(torch.autograd.Function):
    """h = tanh(drive + U h), or rectified, over all steps."""

    @staticmethod
    def forward(
        ctx: Any,
        drives: Tensor,
        hidden: Tensor,
        weights: Tensor,
        is_relu: bool,
        lengths: Tensor | None,
    ) -> Tensor:
        outputs, start, transposed = torch.empty_like(drives), hidden, weights.t()
        activate = torch.relu_ if is_relu else torch.tanh_
        # Left alone, a rectified state could grow without bound in a long padding.
        for step, (drive, output) in enumerate(zip(drives, outputs, strict=True)):
            hidden = activate(torch.addmm(drive, hidden, transposed, out=output))
            if is_relu and lengths is not None:
                hidden *= (step < lengths)[:, None]
        ctx.is_relu = is_relu
        ctx.save_for_backward(outputs, start, weights)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        outputs, start, weights = ctx.saved_tensors
        slopes = (outputs > 0).to(outputs.dtype) if ctx.is_relu else 1 - outputs * outputs
        pulled = torch.zeros_like(start)
        for slope, grad in _from_the_end(slopes, grads):
            slope *= pulled.add_(grad)
            torch.mm(slope, weights, out=pulled)
        return slopes, pulled, _weight_gradient(slopes, _before(outputs, start)), None, None


class GruScan(torch.autograd.Function):
    """h = z h + (1 - z) n over all steps."""

    @staticmethod
    def forward(
        ctx: Any, drives: Tensor, hidden: Tensor, weights: Tensor, candidate_bias: Tensor
    ) -> Tensor:
        size, start, transposed = hidden.shape[1], hidden, weights.t()
        gates, recurrent = torch.empty_like(drives), torch.empty_like(drives)
        outputs = drives.new_empty(*drives.shape[:2], size)
        bias = torch.cat([candidate_bias.new_zeros(2 * size), candidate_bias])
        for drive, gate, back, output in zip(drives, gates, recurrent, outputs, strict=True):
            torch.addmm(bias, hidden, transposed, out=back)
            r_and_z, n = gate.split([2 * size, size], dim=1)
            torch.add(drive[:, : 2 * size], back[:, : 2 * size], out=r_and_z).sigmoid_()
            r, z = r_and_z.chunk(2, dim=1)
            torch.addcmul(drive[:, 2 * size :], r, back[:, 2 * size :], out=n).tanh_()
            hidden = torch.lerp(n, hidden, z, out=output)
        ctx.save_for_backward(gates, recurrent[..., 2 * size :], outputs, start, weights)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor, ...]:
        gates, from_n, outputs, start, weights = ctx.saved_tensors
        r, z, n = gates.chunk(3, dim=-1)
        before = _before(outputs, start)
        # Every gradient of a step is linear in that of its h; these are the factors, in an order
        # in which what goes back into h and what goes into the drives are both slices.
        slopes = r.new_empty(*r.shape[:2], 4, r.shape[2])
        of_n, of_r, of_z, of_back = slopes.unbind(2)
        through_tanh(1 - z, n, grad_input=of_n)
        through_sigmoid(of_n * from_n, r, grad_input=of_r)
        through_sigmoid(before - n, z, grad_input=of_z)
        torch.mul(of_n, r, out=of_back)
        pulled = torch.zeros_like(start)
        for slope, grad, z_now in _from_the_end(slopes, grads, z):
            slope *= pulled.add_(grad)[:, None]
            pulled = (pulled * z_now).addmm_(slope[:, 1:].flatten(1), weights)
        of_weights = _weight_gradient(slopes.flatten(2)[..., r.shape[2] :], before)
        into_drives = torch.cat([of_r, of_z, of_n], dim=2)
        return into_drives, pulled, of_weights, of_back.sum((0, 1))


class MemoryScan(torch.autograd.Function):
    """c = f c + i g and h = P (o tanh(c)) over all steps, with a gate i of its own or i = 1 - f."""

    @staticmethod
    def forward(
        ctx: Any,
        drives: Tensor,
        hidden: Tensor,
        memory: Tensor,
        weights: Tensor,
        projection: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        start, transposed = (hidden, memory), weights.t()
        steps, batch, size = *drives.shape[:2], memory.shape[1]
        gates = torch.empty_like(drives)
        memories, squashed, shown = drives.new_empty(3, steps, batch, size)
        outputs = shown if projection is None else drives.new_empty(steps, batch, len(projection))
        for drive, gate, c, tanh_c, m, output in zip(
            drives, gates, memories, squashed, shown, outputs, strict=True
        ):
            torch.addmm(drive, hidden, transposed, out=gate)
            gate[:, : -2 * size].sigmoid_()
            *i, f, g, o = gate.split(size, dim=1)
            g.tanh_()
            o.sigmoid_()
            if i:
                memory = torch.mul(f, memory, out=c).addcmul_(i[0], g)
            else:
                memory = torch.lerp(g, memory, f, out=c)
            torch.mul(o, torch.tanh(c, out=tanh_c), out=m)
            hidden = m if projection is None else torch.mm(m, projection.t(), out=output)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            gates, memories, squashed, shown, outputs, *start, weights, projection
        )
        return outputs, memories

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grads: Tensor | None, memory_grads: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gates, memories, squashed, shown, outputs, hidden, memory, weights, projection = (
            ctx.saved_tensors
        )
        *i, f, g, o = gates.split(memory.shape[1], dim=-1)
        slopes = _memory_slopes(*i, f, g, o, _before(memories, memory), squashed)
        grads = torch.zeros_like(outputs) if grads is None else grads
        entering = [None] * len(grads) if memory_grads is None else memory_grads.unbind(0)[::-1]
        pulled, of_memory = torch.zeros_like(hidden), torch.zeros_like(memory)
        of_outputs = torch.empty_like(outputs)
        rows = zip(
            _from_the_end(slopes, through_tanh(o, squashed), f, grads, of_outputs),
            entering,
            strict=True,
        )
        for (slope, of_c, f_now, grad, of_h), of_c_too in rows:
            torch.add(pulled, grad, out=of_h)
            of_m = of_h if projection is None else of_h @ projection
            of_memory.addcmul_(of_m, of_c)
            if of_c_too is not None:
                of_memory += of_c_too
            slope[:, :-1] *= of_memory[:, None]
            slope[:, -1] *= of_m
            of_memory *= f_now
            torch.mm(slope.flatten(1), weights, out=pulled)
        into_drives = slopes.flatten(2)
        of_weights = _weight_gradient(into_drives, _before(outputs, hidden))
        of_projection = None if projection is None else _weight_gradient(of_outputs, shown)
        return into_drives, pulled, of_memory, of_weights, of_projection


def _memory_slopes(*gates_and_memory: Tensor) -> Tensor:
    """(t, b, blocks, h): the gates' gradients for a gradient 1 of c, and the last, o's, for 1 of h.

    The forget gate of a coupled cell lets out c and lets in g, both with the same sign.
    """
    *i, f, g, o, before, squashed = gates_and_memory
    slopes = f.new_empty(*f.shape[:2], 4 if i else 3, f.shape[2])
    *of_i, of_f, of_g, of_o = slopes.unbind(2)
    if i:
        through_sigmoid(g, *i, grad_input=of_i[0])
    through_sigmoid(before if i else before - g, f, grad_input=of_f)
    through_tanh(i[0] if i else 1 - f, g, grad_input=of_g)
    through_sigmoid(squashed, o, grad_input=of_o)
    return slopes


def _before(values: Tensor, start: Tensor) -> Tensor:
    """What each step found: ``values`` one step later, ``start`` first."""
    return torch.cat([start[None], values[:-1]])


def _from_the_end(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(value.unbind(0)[::-1] for value in values), strict=True)


def _weight_gradient(grads: Tensor, inputs: Tensor) -> Tensor:
    """Of a product with weights, summed over steps and batch as one product."""
    return grads.flatten(0, 1).t() @ inputs.flatten(0, 1)
