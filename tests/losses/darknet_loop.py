"""Darknet's training signal, one slot and one truth at a time in plain Python: a slow twin.

Written from the formulas, not for speed: maps are NumPy arrays in float64, and a delta is what is
added to a raw output, as in Darknet, before the division by the number of pictures.
"""

import math

import numpy as np


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def edges(box):
    x, y, w, h = box
    return y - h / 2, y + h / 2, x - w / 2, x + w / 2  # top, bottom, left, right


def plain_iou(first, second):
    top, bottom, left, right = edges(first)
    top2, bottom2, left2, right2 = edges(second)
    wide = min(right, right2) - max(left, left2)
    high = min(bottom, bottom2) - max(top, top2)
    if wide < 0 or high < 0:
        return 0.0
    shared = wide * high
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def overlap_deltas(found, wanted, kind):
    """Derivatives of the overlap by x, y, w, h as box.c has them, for one pair of boxes."""
    t, b, left, r = edges(found)
    wt, wb, wl, wr = edges(wanted)
    x, y, w, h = found
    wx, wy, ww, wh = wanted
    ih, iw = min(b, wb) - max(t, wt), min(r, wr) - max(left, wl)
    inter = iw * ih
    union = (b - t) * (r - left) + (wb - wt) * (wr - wl) - inter
    apart = iw <= 0 or ih <= 0
    d_inter = [
        -iw if t > wt else 0,
        iw if b < wb else 0,
        -ih if left > wl else 0,
        ih if r < wr else 0,
    ]
    d_area = [-(r - left), r - left, -(b - t), b - t]
    d_union = [da - di for da, di in zip(d_area, d_inter, strict=True)]
    p = [0.0] * 4
    if union > 0:
        p = [(union * d_inter[e] - inter * d_union[e]) / union**2 for e in range(4)]
    outer_w, outer_h = max(r, wr) - min(left, wl), max(b, wb) - min(t, wt)
    if kind == "giou":
        area = outer_w * outer_h
        d_outer = [
            -outer_w if t < wt else 0,
            outer_w if b > wb else 0,
            -outer_h if left < wl else 0,
            outer_h if r > wr else 0,
        ]
        term = [(area * d_union[e] - union * d_outer[e]) / area**2 for e in range(4)]
        p = term if apart else [p[e] + term[e] for e in range(4)]
    d_x, d_y, d_w, d_h = p[2] + p[3], p[0] + p[1], p[3] - p[2], p[1] - p[0]
    if kind in ("diou", "ciou"):
        s = (x - wx) ** 2 + (y - wy) ** 2
        c = outer_w**2 + outer_h**2
        by_x, by_y = int(r > wr) - int(left < wl), int(b > wb) - int(t < wt)
        by_w, by_h = 0.5 * (r > wr) + 0.5 * (left < wl), 0.5 * (b > wb) + 0.5 * (t < wt)
        if apart:
            d_x = d_y = d_w = d_h = 0.0
        d_x += (2 * (wx - x) * c - 2 * outer_w * by_x * s) / c**2
        d_y += (2 * (wy - y) * c - 2 * outer_h * by_y * s) / c**2
        d_w += 2 * outer_w * by_w * s / c**2
        d_h += 2 * outer_h * by_h * s / c**2
        if kind == "ciou":
            angle = math.atan(ww / wh) - math.atan(w / h)
            v = 4 / math.pi**2 * angle**2
            alpha = v / (1 - inter / union + v + 0.000001)
            d_w += alpha * 8 / math.pi**2 * angle * h
            d_h -= alpha * 8 / math.pi**2 * angle * w
    return [d_x, d_y, d_w, d_h]


def _class_deltas(delta, chances, name, options):
    """One truth of class ``name`` comes to a slot whose class deltas are ``delta``."""
    smoothing, weight = options["label_smoothing"], options["class_weights"][name]
    if delta[name]:  # an earlier truth was here
        target = (1 - smoothing) + 0.5 * smoothing
        delta[name] = weight * options["class_gain"] * (target - chances[name])
        return
    if options["focal_gamma"]:
        gamma = options["focal_gamma"]
        p = chances[name] + 1e-15
        slope = -((1 - p) ** (gamma - 1)) * (gamma * p * math.log(p) + p - 1)
        for c in range(len(chances)):
            delta[c] = ((c == name) - chances[c]) * options["focal_alpha"] * slope
    else:
        for c in range(len(chances)):
            target = (c == name) * (1 - smoothing) + 0.5 * smoothing
            delta[c] = target - chances[c]
    delta[name] *= weight
    delta *= options["class_gain"]


def darknet_deltas(raw_maps, rows, anchors, grid_scales, num_classes, side, options):
    """What Darknet adds to each raw map; ``rows`` are (picture, class, x0, y0, x1, y1)."""
    flat = [(head, a) for head, group in enumerate(anchors) for a in range(len(group))]
    all_deltas = []
    for head, raw_map in enumerate(raw_maps):
        batch, _, height, width = raw_map.shape
        raw = raw_map.reshape(batch, len(anchors[head]), 5 + num_classes, height, width)
        deltas = np.zeros_like(raw)
        is_activated = options["is_activated"]

        def act(value, activated=is_activated):
            return value if activated else sigmoid(value)

        def found_box(b, a, j, i, raw=raw, head=head, act=act, height=height, width=width):
            scale, (aw, ah) = grid_scales[head], anchors[head][a]
            values = raw[b, a, :, j, i]
            x = (i + scale * act(values[0]) - 0.5 * (scale - 1)) / width
            y = (j + scale * act(values[1]) - 0.5 * (scale - 1)) / height
            if options["is_activated"]:
                return x, y, 4 * values[2] ** 2 * aw / side, 4 * values[3] ** 2 * ah / side
            return x, y, math.exp(values[2]) * aw / side, math.exp(values[3]) * ah / side

        def relative(row):
            _, _, x0, y0, x1, y1 = row
            return (x0 + x1) / 2 / side, (y0 + y1) / 2 / side, (x1 - x0) / side, (y1 - y0) / side

        slots = [
            (b, a, j, i)
            for b in range(batch)
            for a in range(len(anchors[head]))
            for j in range(height)
            for i in range(width)
        ]
        for b, a, j, i in slots:
            objectness = act(raw[b, a, 4, j, i])
            names_a_class = any(act(value) > 0.25 for value in raw[b, a, 5:, j, i])
            best = 0.0
            for row in rows:
                if row[0] == b and names_a_class:
                    best = max(best, plain_iou(found_box(b, a, j, i), relative(row)))
            delta = options["objectness_gain"] * (0 - objectness)
            if best > options["ignore_threshold"]:
                delta = 0.0
                if options["rewards_overlap"]:
                    delta = options["objectness_gain"] * (best - objectness)
            deltas[b, a, 4, j, i] = delta

        for row in rows:
            b, name = row[0], row[1]
            wanted = relative(row)
            j, i = min(int(wanted[1] * height), height - 1), min(int(wanted[0] * width), width - 1)
            overlaps = [
                plain_iou((0, 0, aw / side, ah / side), (0, 0, wanted[2], wanted[3]))
                for group in anchors
                for aw, ah in group
            ]
            best = overlaps.index(max(overlaps))
            for number, (owner, a) in enumerate(flat):
                if owner != head:
                    continue
                if number != best and not overlaps[number] > options["anchor_threshold"]:
                    continue
                values = raw[b, a, :, j, i]
                own = overlap_deltas(found_box(b, a, j, i), wanted, options["box_loss"])
                if not options["is_activated"]:
                    own[2] *= math.exp(values[2])
                    own[3] *= math.exp(values[3])
                weight = options["class_weights"][name]
                for axis in range(4):
                    value = own[axis] * options["box_gain"] * weight
                    limit = options["max_delta"]
                    deltas[b, a, axis, j, i] += max(-limit, min(limit, value))
                if not options["rewards_overlap"]:
                    change = weight * options["objectness_gain"] * (1 - act(values[4]))
                    deltas[b, a, 4, j, i] = change
                chances = [act(value) for value in values[5:]]
                _class_deltas(deltas[b, a, 5:, j, i], chances, name, options)

        if options["anchor_threshold"] < 1:
            for b, a, j, i in slots:
                learnt = sum(deltas[b, a, 5:, j, i] > 0)
                if deltas[b, a, 4, j, i] != 0 and learnt:
                    deltas[b, a, :4, j, i] /= learnt
        all_deltas.append(deltas.reshape(raw_map.shape))
    return all_deltas
