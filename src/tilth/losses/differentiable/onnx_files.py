"""Reading an ONNX file, with tensors that lie beside it only where they may lie."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilth import lazy
from tilth.errors import DataError, PathEscapeError

__all__ = ["load_model"]

EXTERNAL = 1  # TensorProto.DataLocation
TENSOR, GRAPH, TENSORS, GRAPHS = 4, 5, 9, 10  # AttributeProto.AttributeType


def load_model(source: Path | str | Any) -> Any:
    """The ``onnx.ModelProto`` of a file, with its external tensors; one that is given is itself.

    Raises:
        DataError: the file is missing or holds no ONNX model, or an external tensor is missing.
        PathEscapeError: an external tensor lies outside the model's own folder.
        MissingExtraError: onnx is not installed.
    """
    onnx = lazy.require("onnx", extra="onnx")
    if isinstance(source, onnx.ModelProto):
        _refuse_external(source)
        return source
    path = Path(source)
    model = _parsed(onnx, path)
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == EXTERNAL]
    for tensor in outside:
        _check_place(tensor, path)
    if outside:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    return model


def _parsed(onnx: Any, path: Path) -> Any:
    if not path.is_file():
        raise DataError(
            "there is no ONNX file here",
            where=str(path),
            fix="give the path of a .onnx file",
        )
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own, whose class depends on how it was built
        raise _no_model(path, f"{type(error).__name__}: {error}") from error
    if not model.HasField("graph") or not model.opset_import:
        raise _no_model(path, "a message without a graph or without operator versions")
    return model


def _no_model(path: Path, got: str) -> DataError:
    return DataError(
        "the file holds no ONNX model",
        where=str(path),
        expected="a model written by an ONNX exporter",
        got=got,
        fix="export it again; onnx.checker.check_model says what is wrong with it",
    )


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model: constants, attributes, those of functions and inner graphs."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.type == TENSOR:
            yield attribute.t
        elif attribute.type == TENSORS:
            yield from attribute.tensors
        elif attribute.type == GRAPH:
            yield from _of_graph(attribute.g)
        elif attribute.type == GRAPHS:
            for graph in attribute.graphs:
                yield from _of_graph(graph)


def _location(tensor: Any) -> str:
    return next((item.value for item in tensor.external_data if item.key == "location"), "")


def _check_place(tensor: Any, path: Path) -> None:
    location, folder = _location(tensor), path.parent.resolve()
    place = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not place.is_relative_to(folder):
        raise PathEscapeError(
            f"tensor '{tensor.name}' is kept outside the model's folder",
            where=str(path),
            expected=f"a file inside {folder}",
            got=location or "no place",
            fix="save the model anew with its data beside it (onnx.save_model, "
            "save_as_external_data=True)",
        )
    if not place.is_file():
        raise DataError(
            f"the file that holds tensor '{tensor.name}' is missing",
            where=str(place),
            fix="copy it beside the model",
        )


def _refuse_external(model: Any) -> None:
    tensor = next((item for item in _tensors(model) if item.data_location == EXTERNAL), None)
    if tensor is not None:
        raise DataError(
            f"tensor '{tensor.name}' of the model is in another file, {_location(tensor)}",
            expected="a model with its data in it, or the path of its file",
            fix="give the path of the .onnx file",
        )
