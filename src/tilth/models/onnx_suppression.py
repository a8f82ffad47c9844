"""The choice of the best boxes as part of an ONNX graph, with the standard NonMaxSuppression.

It does what `tilth.models.detection_network.detect` does, for every picture of a batch: the
strongest pairs of box and class, of which those go that overlap a stronger one of their class. The
outputs have one row a picture, padded to the greatest number of detections:

    num_detections        [batch]          int64
    detection_boxes       [batch, k, 4]    x0 y0 x1 y1, pixels of the input; zeros behind the last
    detection_scores      [batch, k]       falling; zeros behind the last
    detection_classes     [batch, k]       int64; -1 behind the last
"""

from typing import Any

from tilth import lazy
from tilth.errors import SettingsError
from tilth.ops.nms import MAX_CANDIDATES, Suppression

__all__ = ["with_suppression"]


def with_suppression(
    graph: Any, suppression: Suppression, *, score_threshold: float, suppresses: bool
) -> Any:
    """A graph of `detector_graph` that ends in detections instead of all boxes and scores.

    Args:
        score_threshold: weaker boxes go.
        suppresses: as of the network; false leaves all overlapping boxes in.

    Raises:
        SettingsError: the standard operator does not know this kind of suppression.
        MissingExtraError: onnx is not installed.
    """
    if suppression.kind != "iou" and suppresses:
        raise SettingsError(
            "ONNX's NonMaxSuppression knows plain overlap only",
            expected="kind 'iou'",
            got=repr(suppression.kind),
            fix="export without suppression, and suppress after the graph",
        )
    onnx = lazy.require("onnx", extra="onnx")
    _, boxes, classes = graph.graph.output[1].type.tensor_type.shape.dim
    choice = (
        _suppressed(suppression, score_threshold, classes.dim_value)
        if suppresses
        else _strong(score_threshold)
    )
    kept = suppression.max_detections
    tail = onnx.parser.parse_model(_tail(boxes.dim_value, classes.dim_value, kept, choice))
    tail.ir_version = graph.ir_version
    del tail.opset_import[:]
    tail.opset_import.extend(graph.opset_import)
    # Prefixed, because both graphs may have names of the same kind inside.
    tail = onnx.compose.add_prefix(tail, "suppression/", rename_inputs=False, rename_outputs=False)
    whole = onnx.compose.merge_models(
        graph, tail, io_map=[("boxes", "boxes"), ("scores", "scores")], producer_name="tilth"
    )
    onnx.helper.set_model_props(whole, {p.key: p.value for p in graph.metadata_props})
    onnx.checker.check_model(whole)
    return whole


def _tail(num_boxes: int, num_classes: int, max_detections: int, choice: str) -> str:
    """The tail in ONNX's text form; ``choice`` makes ``kept_strengths`` of ``strengths``."""
    candidates = min(MAX_CANDIDATES, num_boxes * num_classes)
    kept = min(max_detections, candidates)
    return f"""
<ir_version: 8, opset_import: ["": 18]>
tail (float[batch, {num_boxes}, 4] boxes, float[batch, {num_boxes}, {num_classes}] scores)
  => (int64[batch] num_detections, float[batch, {kept}, 4] detection_boxes,
      float[batch, {kept}] detection_scores, int64[batch, {kept}] detection_classes)
{{
  # The strongest pairs of box and class; of equals, the earlier.
  zero = Constant <value_float = 0.0> ()
  first_axis = Constant <value_ints = [1]> ()
  last_axis = Constant <value_ints = [-1]> ()
  num_classes = Constant <value_int = {num_classes}> ()
  num_candidates = Constant <value_ints = [{candidates}]> ()
  four = Constant <value_ints = [1, 1, 4]> ()
  pairs = Flatten <axis = 1> (scores)
  strengths, places = TopK (pairs, num_candidates)
  classes = Mod (places, num_classes)
  rows = Div (places, num_classes)
  rows_deep = Unsqueeze (rows, last_axis)
  rows_wide = Expand (rows_deep, four)
  candidates = GatherElements <axis = 1> (boxes, rows_wide)
{choice}
  # The kept ones in order, padded.
  num_kept = Constant <value_ints = [{kept}]> ()
  detection_scores, order = TopK (kept_strengths, num_kept)
  is_found = Greater (detection_scores, zero)
  as_number = Cast <to = 7> (is_found)
  num_detections = ReduceSum <keepdims = 0> (as_number, first_axis)
  no_class = Constant <value_int = -1> ()
  own_classes = GatherElements <axis = 1> (classes, order)
  detection_classes = Where (is_found, own_classes, no_class)
  order_deep = Unsqueeze (order, last_axis)
  order_wide = Expand (order_deep, four)
  own_boxes = GatherElements <axis = 1> (candidates, order_wide)
  found_deep = Unsqueeze (is_found, last_axis)
  detection_boxes = Where (found_deep, own_boxes, zero)
}}
"""


def _suppressed(suppression: Suppression, score_threshold: float, num_classes: int) -> str:
    classes = ", ".join(map(str, range(num_classes)))
    # One plane of scores a class, so that boxes of different classes leave each other alone.
    planes = (
        "  planes = Unsqueeze (strengths, first_axis)"
        if suppression.class_agnostic
        else f"""
  class_numbers = Constant <value_ints = [{classes}]> ()
  class_axes = Constant <value_ints = [0, 2]> ()
  each_class = Unsqueeze (class_numbers, class_axes)
  classes_deep = Unsqueeze (classes, first_axis)
  is_own = Equal (classes_deep, each_class)
  strengths_deep = Unsqueeze (strengths, first_axis)
  planes = Where (is_own, strengths_deep, zero)"""
    )
    return f"""{planes}
  most = Constant <value_ints = [{suppression.max_detections}]> ()
  overlap = Constant <value_floats = [{suppression.iou_threshold:.12f}]> ()
  weakest = Constant <value_floats = [{score_threshold:.12f}]> ()
  selected = NonMaxSuppression (candidates, planes, most, overlap, weakest)
  # Rows of [picture, class, candidate]: mark the candidates.
  ends = Constant <value_ints = [0, 2]> ()
  marks = Gather <axis = 1> (selected, ends)
  shape = Shape (strengths)
  nothing = ConstantOfShape (shape)
  num_selected = Shape <start = 0, end = 1> (selected)
  one = Constant <value_float = 1.0> ()
  ones = Expand (one, num_selected)
  is_kept = ScatterND (nothing, marks, ones)
  kept_strengths = Mul (strengths, is_kept)"""


def _strong(score_threshold: float) -> str:
    return f"""
  weakest = Constant <value_float = {score_threshold:.12f}> ()
  is_strong = Greater (strengths, weakest)
  kept_strengths = Where (is_strong, strengths, zero)"""
