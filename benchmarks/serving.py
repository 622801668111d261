"""Load-test `examples/serve.py` on this machine, and compare every answer with that of the pipeline.

    python benchmarks/serving.py --model outputs/quickstart --data data/beer

It starts the server, lets clients ask in threads, each one request after the other, and prints requests a second, the
median and the 95th percentile of the latency, and how many answers were wrong. It needs `pip install fastapi uvicorn`.
"""

import argparse
import gzip
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from transformers import pipeline

import hf_rationale  # noqa: F401  registers the models and the pipeline


ROOT = Path(__file__).parent.parent
FILE = "reviews.260k.heldout.txt.gz"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a rationale model")
    parser.add_argument("--data", type=Path, default=Path("data", "beer"), help=f"the folder of {FILE}")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--requests", type=int, default=200, help="of each client")
    options = parser.parse_args()
    with gzip.open(options.data / FILE, "rt", encoding="utf-8") as file:
        texts = [line.split("\t")[-1].strip() for _, line in zip(range(options.requests), file, strict=False)]
    expected = pipeline("rationale-classification", model=options.model)(texts)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MODEL": options.model, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples"), "serve:app", "--port", str(port)]
    server = subprocess.Popen([*command, "--log-level", "warning"], env=environment)
    try:
        wait_for(port)
        print("| clients | requests a second | median | 95th percentile | wrong |\n|---|---|---|---|---|")
        for count in options.clients:
            started = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                runs = list(pool.map(lambda number: ask(port, texts, expected, number), range(count)))
            seconds = time.perf_counter() - started
            times = sorted(time for times, _ in runs for time in times)
            print(
                f"| {count} | {len(times) / seconds:.0f} | {statistics.median(times) * 1000:.0f} ms "
                f"| {times[int(len(times) * 0.95)] * 1000:.0f} ms | {sum(wrong for _, wrong in runs)} |"
            )
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int):
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("The server has not started in a minute.")


def ask(port: int, texts: list[str], expected: list[dict], start: int) -> tuple[list[float], int]:
    """The seconds of every request of one client, and the number of wrong answers."""
    connection, times, wrong = HTTPConnection("127.0.0.1", port), [], 0
    for place in range(len(texts)):
        row = (place + start * 17) % len(texts)
        started = time.perf_counter()
        connection.request("POST", "/explain", json.dumps({"text": texts[row]}), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        times.append(time.perf_counter() - started)
        right = expected[row]
        same_spans = [span["text"] for span in answer["rationale"]] == [span["text"] for span in right["rationale"]]
        wrong += not (same_spans and abs(answer["score"] - right["score"]) < 1e-4)
    return times, wrong


if __name__ == "__main__":
    main()
