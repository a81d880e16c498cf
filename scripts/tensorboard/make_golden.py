#!/usr/bin/env python3
"""Event files written with TensorBoard's own messages and record writer, into fixtures/tensorboard.

    python3 scripts/tensorboard/make_golden.py         needs tensorboard 2

What they hold is what the test of jest-train/src/sinks/tensorboard.rs emits: three steps and an evaluation, then the run again from step 2."""
import os
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "fixtures", "tensorboard")
os.makedirs(out, exist_ok=True)
NOW = 1_700_000_000.25


def step(number, wall):
    values = {
        "train/loss": 10 / number, "train/contrastive_loss": 10 / number, "train/grad_norm": 0.5, "train/lr": 1e-3,
        "train/logit_scale": 10, "train/logit_bias": -10, "train/data_time": wall / 4, "train/batch_time": wall,
        "train/examples_drawn": 640 * number, "train/samples_per_second": 128 / wall, "train/samples_per_second_per_gpu": 128 / wall,
        "train/score_picked": 0, "train/score_super_batch": 0,
    }
    return scalars(number, values)


def scalars(number, values):
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return Event(wall_time=NOW, step=number, summary=summary)


files = [
    [step(1, 0.5), step(2, 0.5), step(3, 0.5), scalars(3, {"val/fashion_zs-zeroshot-val-top1": 0.25, "val/fashion_zs-skipped": 1})],
    [Event(wall_time=NOW, step=3, session_log=SessionLog(status=SessionLog.START)), step(3, 0.25)],
]
for n, events in enumerate(files):
    with open(os.path.join(out, f"events.out.tfevents.1700000000.jest.{n}"), "wb") as f:
        writer = RecordWriter(f)
        for event in [Event(wall_time=NOW, file_version="brain.Event:2"), *events]:
            writer.write(event.SerializeToString())
        writer.flush()
