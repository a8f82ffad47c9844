"""Any fitted model as a frozen torch module with a gradient to its inputs.

`as_differentiable` is the way in. To add an estimator of scikit-learn: a builder in the file of its
family, one line in the table `estimators`. To add an operator of ONNX: one line in the table
`onnx_operators`.
"""

from tilth.losses.differentiable.conversion import DifferentiableModel, Method, as_differentiable

__all__ = ["DifferentiableModel", "Method", "as_differentiable"]
