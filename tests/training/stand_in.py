"""Stands in for the engine's job where a test is about everything around it: epochs by the clock, no net.

It keeps the engine's promises: events, a checkpoint after each epoch, going on from the furthest, ending with its parent.
How it misbehaves is said by options before the job's file, as its environment has nothing of the test in it.
"""

import argparse
import ctypes
import hashlib
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def weights_file(labels, *, note=""):
    """The smallest file that the registry takes for weights; its net has no layer that could be run."""
    document = {
        "architecture": {"nc": len(labels), "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": []},
        "labels": list(labels),
        "image_size": 64,
        "object_size_px": 22.0,
        "trained_size_px": 22.0,
        "name": note,
        "licences": [],
    }
    header = json.dumps({"__metadata__": {"format": FORMAT, "podura": json.dumps(document)}}).encode()
    return lzma.compress(len(header).to_bytes(8, "little") + header, preset=0)


FORMAT = "podura-weights-1"


class Job:
    def __init__(self, options):
        self.options = options
        self.content = json.loads(Path(options.job).read_text())
        self.folder = Path(self.content["folder"])
        self.batch = self.content["batch"] or self.content["recipe"]["batch"] or 8
        self.epochs = self.content["recipe"]["epochs"]

    def tell(self, event, **more):
        os.write(self.options.events_fd, json.dumps({"event": event, **more}).encode() + b"\n")

    def done_before(self):
        paths = [Path(path) for path in (self.content["checkpoint"], self.folder / "last.pt") if path]
        return max([0, *(json.loads(path.read_text())["epoch"] for path in paths if path.exists())])

    def checkpoint(self, epoch):
        content = json.dumps({"epoch": epoch, "pid": os.getpid(), "filling": "x" * 2000})
        for name in ("last.pt", f"{epoch:06}.tar"):
            (self.folder / "part").write_text(content)
            (self.folder / "part").replace(self.folder / name)
        digest = hashlib.sha256(content.encode()).hexdigest()
        self.tell("checkpoint", epoch=epoch, path=str(self.folder / f"{epoch:06}.tar"), sha256=digest)

    def epoch(self, epoch):
        time.sleep(self.options.seconds)
        self.misbehave(epoch)
        (self.folder / "diary.txt").open("a").write(f"{epoch} {self.batch}\n")
        metrics = {
            "box_loss": 2 / epoch,
            "map50": epoch / 100,
            "map50_95": epoch / 200,
            "learning_rate": 0.001,
        }
        self.tell("epoch", epoch=epoch, epochs=self.epochs, seconds=self.options.seconds, batch=self.batch,
                  metrics=metrics)  # fmt: skip
        self.checkpoint(epoch)

    def misbehave(self, epoch):
        if epoch != self.options.at:
            return
        if self.options.memory and self.batch > self.options.memory:
            if self.options.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            self.fail("out_of_memory", f"no room for {self.batch}")
        if self.options.how == "orphan":  # one of several processes ran out of memory, the first misses it
            self.tell("failed", code="out_of_memory", detail="no room on the second GPU")
            self.fail("error", "connection closed by peer")
        if self.options.how == "crash":
            os.write(1, b"Segmentation of the worm failed\n")
            sys.exit(7)
        if self.options.how == "hang":
            time.sleep(1000)
        if self.options.fail:
            self.fail(self.options.fail, "as the test wished")

    def fail(self, code, detail):
        self.tell("failed", code=code, detail=detail)
        sys.exit(3)

    def run(self):
        (self.folder / "environment.json").write_text(json.dumps(dict(os.environ)))
        if self.options.child:
            child = subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True
            )
            (self.folder / "child.txt").write_text(str(child.pid))
        if self.options.how == "killed" and not self.options.memory:
            os.kill(os.getpid(), signal.SIGKILL)  # before a picture was prepared
        self.tell("hardware", cpu="a stand-in", cores=1, memory_bytes=1, gpus=[], versions={})
        self.tell(
            "prepared", training=len(self.content["training"]), validation=len(self.content["validation"])
        )
        self.tell("log", level="info", code="device", details={"device": "cpu", "batch": self.batch}, text="")
        begun = self.done_before()
        if begun:
            self.tell("log", level="info", code="resumed", details={"epoch": begun}, text="")
        os.write(1, b"\x1b[32mthe trainer's\x1b[0m own\rwords\n")
        for epoch in range(begun + 1, self.epochs + 1):
            self.epoch(epoch)
        output = Path(self.content["output"])
        output.write_bytes(weights_file(self.content["labels"], note=self.content["name"]))
        digest = hashlib.sha256(output.read_bytes()).hexdigest()
        self.tell("finished", weights=str(output), sha256=digest, best_epoch=self.epochs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--at", type=int, default=2, help="the epoch at which it misbehaves")
    parser.add_argument("--how", default="")
    parser.add_argument("--fail", default="")
    parser.add_argument("--memory", type=int, default=0, help="the largest batch that it has memory for")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("job")
    parser.add_argument("--events-fd", type=int, required=True)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    Job(options).run()


if __name__ == "__main__":
    main()
