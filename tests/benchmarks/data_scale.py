"""Anonymous memory while many images are prepared, and while a network trains on them.

    python tests/benchmarks/data_scale.py [--images 1000000]

Writes that many 32x32x3 PNGs into a parquet folder, prepares them in a fresh process and trains some steps in another.
Prints the peak of RssAnon (Linux) of each process, and of the same training on few images. The memory map itself does
not count: it is backed by a file, so the system drops it when it needs the room.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def write(folder: Path, count: int) -> None:
    """Parquet files of 50,000 smooth pictures each, so that they compress and are quick to make."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder.mkdir()
    ramp = np.arange(32, dtype=np.uint8)
    for start in range(0, count, 50_000):
        rows = []
        for i in range(start, min(count, start + 50_000)):
            a, b, c = i % 7 + 1, i // 7 % 7 + 1, i // 49 % 256
            pixels = np.stack([ramp[:, None] * a + ramp * 0, ramp * b + ramp[:, None] * 0, np.full((32, 32), c)], -1)
            file = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", compress_level=1)
            rows.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"image": rows})
        pq.write_table(table, folder / f"train-{start // 50_000:05d}.parquet", row_group_size=1000)


def peak_anonymous(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Peak RssAnon in MB of a command, and its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            anonymous = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
            peak = max([peak, *map(int, anonymous)])
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"failed: {' '.join(command)}")
    watcher.join()
    return peak / 1024, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        write(folder, args.images)
        environment = os.environ | {"DDPM_CACHE": f"{scratch}/cache", "HF_HUB_OFFLINE": "1"}
        prepare = f"from ddpm.data import *; prepare(DataOptions(dataset_name={str(folder)!r}))"
        # A small network, so that its own activations do not hide what the data take.
        train = [sys.executable, "train.py", "--output_dir", f"{scratch}/run", "--resume_from_checkpoint", "none"]
        train += (
            "--max_train_steps 100 --validation_steps 1000 --num_validation_images 64 --num_samples 1 --sample_steps 2 "
            "--block_out_channels 8 16 --norm_num_groups 4 --train_batch_size 16 --dataset_name"
        ).split()
        for name, command in (
            (f"preparing {args.images:,} images", [sys.executable, "-c", prepare]),
            (f"training on {args.images:,} images", [*train, str(folder)]),
            ("training on 1,707 images", [*train, "digits", "--resolution", "32", "--channels", "3"]),
        ):
            megabytes, seconds = peak_anonymous(command, environment)
            print(f"{name}: {megabytes:.0f} MB anonymous at most, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
