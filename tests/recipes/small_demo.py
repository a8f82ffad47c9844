"""`tilth demo` with a fifth of the pictures and few steps: python small_demo.py FOLDER [flags]."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from tilth.cli.app import main
from tilth.recipes import demo

SMALL = replace(
    demo.DEMO,
    model=replace(demo.DEMO.model, width=0.125, size=64),
    train=replace(demo.DEMO.train, steps=5, warmup_steps=2, checkpoint_every=2),
    experiment=replace(demo.DEMO.experiment, seeds=(0,), workers=1),
)

if __name__ == "__main__":
    for name in ("TEXTURES", "COLLECTED", "DEPLOYED"):
        whole = getattr(demo, name)
        fifth = {condition: -(-count // 5) for condition, count in whole.shares.items()}
        setattr(demo, name, replace(whole, shares=fifth))
    demo.demo = partial(demo.demo, settings=SMALL)
    main(["demo", *sys.argv[1:]])
