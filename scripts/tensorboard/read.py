#!/usr/bin/env python3
"""Reads event files with the real tensorboard package and checks what the test of jest-train/src/sinks/tensorboard.rs put into them.

    python3 scripts/tensorboard/read.py [FOLDER]         needs tensorboard 2

Without a folder the fixtures are read and checked; with one, its tags and last values are printed."""
import os, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

fixtures = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "fixtures", "tensorboard")
folder = sys.argv[1] if len(sys.argv) > 1 else fixtures
events = EventAccumulator(folder, size_guidance={"scalars": 0})
events.Reload()
values = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
for tag, points in sorted(values.items()):
    print(tag, points if folder == fixtures else points[-1])
if folder == fixtures:
    loss = values["train/loss"]
    assert [step for step, _ in loss] == [1, 2, 3], loss
    assert all(abs(value - 10 / step) < 1e-6 for step, value in loss), loss
    # The third step of the first file was dropped for that of the second.
    assert [value for _, value in values["train/batch_time"]] == [0.5, 0.5, 0.25], values["train/batch_time"]
    # The evaluation came after the step from which the run went on.
    assert values["val/fashion_zs-zeroshot-val-top1"] == [], values
    print("ok")
