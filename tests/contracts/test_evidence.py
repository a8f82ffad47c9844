"""Committed results keep the evidence schema, and the page made from them is current."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("evidence", ROOT / "benchmarks" / "evidence.py")
evidence = importlib.util.module_from_spec(_spec)
sys.modules["evidence"] = evidence
_spec.loader.exec_module(evidence)

ROWS = evidence.load_claims()
KEYS = {"benchmark", "command", "date", "commit", "machine", "data", "claims", "detail"}

ISSUE_CLAIMS = {
    "demo_minutes",
    "help_seconds",
    "coco_import_vs_fastest_peer",
    "coco_import_vs_json_parse",
    "coco_import_large_peak_gb",
    "image_metrics_decode_share",
    "image_metrics_vs_cleanvision",
    "penn_map50_pretrained",
    "penn_map50_raw",
    "penn_map50_random",
    "penn_map50_rebalanced",
    "format_import_vs_fastest_peer",
    "format_export_vs_fastest_peer",
    "format_peak_gb",
    "frame_rows_vs_hf_datasets",
    "frame_rows_vs_tf_data",
    "elman_time_vs_torch",
    "lstm_time_vs_torch",
    "text_frame_seconds",
    "opencv_parity_max_abs",
    "tiny416_infer_cpu_vs_onnxruntime",
    "train_rate_per_flop_vs_ultralytics",
    "train_data_wait_share",
    "conv_share_of_gemm_ceiling",
    "yolo_fastest_person_ap50",
    "coco_person_map50_pretrained",
    "coco_person_map50_raw",
    "coco_person_map50_random",
    "coco_person_map50_rebalanced",
    "coco_person_map50_leaky",
    "ciw_step_overhead",
    "cicw_step_overhead",
    "cicw_m_step_overhead",
    "label_error_f1_vs_cleanlab",
    "label_error_speed_vs_cleanlab",
    *(
        f"{task}_{method}"
        for task in ("mnist_sym04", "mnist_sym08", "cifar10n_worse")
        for method in ("ce", "gce", "ciw", "cicw", "cicw_m")
    ),
    *(
        f"{task}_{arm}"
        for task in ("hd95", "edit_distance", "pesq")
        for arm in ("proxy", "frozen", "refreshed", "refreshed_anchored")
    ),
    "surrogate_exact_max_abs",
    "surrogate_step_vs_metric_call",
    "exploit_alarm_caught",
}


def test_every_named_claim_is_measured():
    assert {entry["claim"] for _, entry in ROWS} >= ISSUE_CLAIMS


@pytest.mark.parametrize(("result", "entry"), ROWS, ids=[entry["claim"] for _, entry in ROWS])
def test_result_keeps_the_schema(result, entry):
    assert set(result) == KEYS
    assert (ROOT / "benchmarks" / f"{result['benchmark']}.py").is_file()
    assert (
        evidence.claim(
            entry["claim"],
            entry["value"],
            **{k: v for k, v in entry.items() if k not in ("claim", "value", "met")},
        )
        == entry
    ), "met, or a field, disagrees with value and goal"


@pytest.mark.parametrize(("result", "entry"), ROWS, ids=[entry["claim"] for _, entry in ROWS])
def test_an_unmet_claim_gives_its_reason(result, entry):
    assert entry["met"] is not False or len(entry["note"]) > 20


def test_claim_compares_value_with_goal_in_the_better_direction():
    assert evidence.claim("t", 2.0, unit="s", goal=1.0, better="lower")["met"] is False
    assert evidence.claim("t", 2.0, unit="s", goal=1.0, better="higher")["met"] is True
    assert evidence.claim("t", 2.0, unit="s")["met"] is None


def test_evidence_page_is_current():
    assert evidence.PAGE.read_text(encoding="utf-8") == evidence.markdown(ROWS), (
        "run: make evidence"
    )
