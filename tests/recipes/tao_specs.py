"""Specifications of TAO's YOLOv4 for the tests of this room, with our own numbers."""

__all__ = ["FULL", "TINY"]

FULL = """# every field of the specification
random_seed: 42
yolov4_config {
  big_anchor_shape: "[(114.94, 60.67), (159.06, 114.59), (297.59, 176.38)]"
  mid_anchor_shape: "[(42.99, 31.91), (79.57, 31.75), (56.80, 56.93)]"
  small_anchor_shape: "[(15.60, 13.88), (30.25, 20.25), (20.67, 49.63)]"
  matching_neutral_box_iou: 0.5
  box_matching_iou: 0.25
  arch: "cspdarknet"
  nlayers: 53
  arch_conv_blocks: 2
  loss_loc_weight: 0.8
  loss_neg_obj_weights: 10.0
  loss_class_weights: 0.5
  freeze_blocks: [0, 1]
  freeze_bn: true
  force_relu: false
  activation: "mish"
  focal_loss_alpha: 0.25
  focal_loss_gamma: 2.0
  label_smoothing: 0.1
  big_grid_xy_extend: 0.05
  mid_grid_xy_extend: 0.1
  small_grid_xy_extend: 0.2
}
training_config {
  batch_size_per_gpu: 8
  num_epochs: 80
  learning_rate {
    soft_start_cosine_annealing_schedule {
      min_learning_rate: 1e-7
      max_learning_rate: 1e-4
      soft_start: 0.3
    }
  }
  regularizer { type: L1 weight: 3e-5 }
  optimizer { adam { epsilon: 1e-7 beta1: 0.9 beta2: 0.99 amsgrad: false } }
  cost_scaling { enabled: false initial_exponent: 20.0 increment: 0.005 decrement: 1.0 }
  checkpoint_interval: 10
  enable_qat: false
  pretrain_model_path: "/models/cspdarknet53.hdf5"
  max_queue_size: 16
  n_workers: 4
  use_multiprocessing: False
  early_stopping { monitor: "loss" min_delta: 0.01 patience: 5 }
  visualizer {
    enabled: True
    num_images: 3
    weight_histograms: false
    wandb_config {
      enabled: true key: "SECRET" project: "p" entity: "e" reinit: true name: "n"
      tags: ["a", "b"] wandb_dir: "d" notes: "n" mode: ONLINE
    }
    clearml_config {
      project: "p" task: "t" tags: "a" reuse_last_task_id: true continue_last_task: false
      deferred_init: true
    }
  }
  model_ema: true
}
eval_config {
  average_precision_mode: INTEGRATE
  batch_size: 8
  matching_iou_threshold: 0.5
  visualize_pr_curve: true
}
nms_config {
  confidence_threshold: 0.001
  clustering_iou_threshold: 0.5
  top_k: 200
  infer_nms_score_bits: 0
  force_on_cpu: true
}
augmentation_config {
  hue: 0.1
  saturation: 1.5
  exposure: 1.4
  vertical_flip: 0.1
  horizontal_flip: 0.5
  jitter: 0.3
  output_width: 1248
  output_height: 384
  output_channel: 3
  output_depth: 8
  randomize_input_shape_period: 10
  mosaic_prob: 0.4
  mosaic_min_ratio: 0.2
  image_mean { key: 'r' value: 123.9 }
  image_mean { key: 'g' value: 116.8 }
}
dataset_config {
  data_sources {
    label_directory_path: "/data/kitti/label_2"
    image_directory_path: "/data/kitti/image_2"
    root_path: "/data"
    source_weight: 2.0
  }
  validation_data_sources {
    label_directory_path: "/data/val/label 2"
    image_directory_path: "/data/val/image_2"
  }
  target_class_mapping { key: "van" value: "car" }
  target_class_mapping { key: "car" value: "car" }
  target_class_mapping { key: "pedestrian" value: "pedestrian" }
  validation_fold: 0
  include_difficult_in_training: true
  type: "kitti"
  image_extension: "png"
  is_monochrome: false
}
class_weighting_config {
  class_weighting { key: "car" value: 1.0 }
  class_weighting { key: "pedestrian" value: 2.5 }
  enable_auto: false
}
"""

TINY = """
yolov4_config {
  big_anchor_shape: "[(120, 90), (200, 160), (60, 50)]"
  mid_anchor_shape: "[(12, 20), (30, 24), (25, 44)]"
  box_matching_iou: 0.25
  matching_neutral_box_iou: 0.5
  arch: "cspdarknet_tiny"
  loss_loc_weight: 1.0
  loss_neg_obj_weights: 1.0
  loss_class_weights: 1.0
  big_grid_xy_extend: 0.05
  mid_grid_xy_extend: 0.05
}
training_config {
  batch_size_per_gpu: 4
  num_epochs: 3
  checkpoint_interval: 1
  learning_rate {
    soft_start_annealing_schedule {
      min_learning_rate: 1e-5 max_learning_rate: 1e-3 soft_start: 0.1 annealing: 0.6
    }
  }
  regularizer { type: L2 weight: 1e-4 }
  optimizer { sgd { momentum: 0.9 nesterov: true } }
}
augmentation_config {
  saturation: 1.5 exposure: 1.5 hue: 0.1 horizontal_flip: 0.5
  output_width: 320 output_height: 320 output_channel: 3
  mosaic_prob: 0.5 mosaic_min_ratio: 0.3
}
dataset_config {
  data_sources { label_directory_path: "labels" image_directory_path: "images" }
  target_class_mapping { key: "raccoon" value: "raccoon" }
}
"""
