"""`make bench`: the engine and its peers on the same machine and the same local S3 server, turn by turn.

usage: bench.py DATA_FOLDER [SECTION…] [--rounds N]; without a section, all of them. Prints a table for each section:
medians of seconds, CPU seconds and peak memory, the ratio to the engine, requests and bytes. Sections are the rows of
the targets in docs/performance.md.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
import zipfile

import workloads

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ["BENCH_BIN"]
PEERS = ["reference", "polars", "duckdb", "datafusion"]
ENGINE = "engine"


def environment(endpoint):
    return os.environ | {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret",
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_S3_BUCKET": "bench",
        "AWS_SNS_EVENTS_TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:events.fifo", "WORKER_HEARTBEAT_ENABLED": "false",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "LOG_LEVEL": "error"}


class Process:
    """A process that answers a line with a line."""

    def __init__(self, command, env=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[:3]} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class World:
    """The server over one group of datasets, and the contestants that have been asked something."""

    def __init__(self, data, group):
        workloads.generate(data, [group])
        self.folder = os.path.join(data, group)
        self.server = Process([os.path.join(BIN, "s3"), self.folder])
        self.env = environment(self.server.read()["endpoint"])
        self.contestants = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for contestant in self.contestants.values():
            contestant.close()
        self.server.close()

    def contestant(self, name):
        if name not in self.contestants:
            command = [os.path.join(BIN, "contestant")] if name == ENGINE \
                else [sys.executable, os.path.join(HERE, "peers.py"), name]
            self.contestants[name] = Process(command, self.env)
        return self.contestants[name]

    def restart(self, name):
        if name in self.contestants:
            self.contestants.pop(name).close()

    def run(self, name, batch, output="both", concurrency=None, extra=None):
        command = {"batch": os.path.join(self.folder, "events", f"{batch}.json"), "output": output}
        if name == ENGINE:
            command["env"] = {"OUTPUT_FORMAT": output} | (extra or {})
            if concurrency:
                command["env"]["READ_CONCURRENCY"] = str(concurrency)
        elif concurrency:
            command["concurrency"] = concurrency
        self.server.ask("drop metrics/")
        self.server.ask("count")
        answer = self.contestant(name).ask(json.dumps(command))
        if answer.get("failed") or answer.get("returned"):
            raise RuntimeError(f"{name} failed {batch}: {answer}")
        return answer | self.server.ask("count")

    def compare(self, batch, contestants, rounds, warm=1, **options):
        """Each in its turn, `rounds` times after the warm-up; the medians of each."""
        answers = {name: [] for name in contestants}
        for turn in range(-warm, rounds):
            for name in contestants:
                if answers[name] is None:
                    continue
                answer = self.run(name, batch, **options)
                if "skipped" in answer:
                    answers[name] = None
                elif turn >= 0:
                    answers[name].append(answer)
        return {name: median(found) if found else None for name, found in answers.items()}


def median(answers):
    return {field: statistics.median(one[field] for one in answers)
            for field, value in answers[0].items() if isinstance(value, (int, float))}


RESULTS = {}


def show(section, rows, note=""):
    """A table of the contestants' medians, each beside its ratio to the engine."""
    RESULTS[section] = {name: row for name, row in rows.items()}
    ours = rows.get(ENGINE)
    print(f"\n### {section}\n" + (f"\n{note}\n" if note else ""))
    print("| | seconds | ratio | CPU s | ratio | peak MB | requests | MB read | rows |\n|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        if row is None:
            print(f"| {name} | cannot | | | | | | | |")
            continue
        requests = row["gets"] + row["heads"] + row["lists"] + row["puts"]
        ratio = lambda field: f"{row[field] / ours[field]:.2f}" if ours and ours[field] else ""
        print(f"| {name} | {row['seconds']:.4f} | {ratio('seconds')} | {row['cpu']:.4f} | {ratio('cpu')} "
              f"| {row['peak_mb']:.0f} | {requests:.0f} | {row['sent_bytes'] / 1e6:.2f} | {row['rows']:.0f} |")
    sys.stdout.flush()


def latency(world, ms, tail=(0, 0)):
    world.server.ask(f"latency {ms}")
    world.server.ask(f"tail {tail[0]} {tail[1]}")


def requests(data, rounds):
    """N one-series objects: what is asked of the store."""
    with World(data, "small") as world:
        show("requests: 550 objects of two series", world.compare("small", [ENGINE, *PEERS], 1, warm=0))
        show("requests: ten records over the same three series", world.compare("shared_series", [ENGINE], 1, warm=0),
             "825 objects in all: nothing is to be read twice in a batch.")


def small(data, rounds):
    """550 objects at 30 ms, at each concurrency."""
    with World(data, "small") as world:
        latency(world, 30)
        for concurrency in (16, 64, 128):
            floor = math.ceil(550 / concurrency) * 0.030
            rows = world.compare("small", [ENGINE], rounds, concurrency=concurrency)
            rows |= world.compare("small", ["polars"] if concurrency == 64 else [], max(1, rounds // 3))
            if concurrency == 64:
                rows |= world.compare("small", ["reference", "duckdb", "datafusion"], 1, warm=0, concurrency=64)
            show(f"550 objects at 30 ms, {concurrency} at a time", rows,
                 f"The floor of the GETs alone is {floor:.3f} s; the engine's whole run is "
                 f"{rows[ENGINE]['seconds'] / floor:.2f} times that.")


def tail(data, rounds):
    """One of a hundred requests takes two seconds."""
    with World(data, "small") as world:
        latency(world, 30)
        rows = {"engine, no tail": world.compare("small", [ENGINE], rounds, concurrency=64)[ENGINE]}
        latency(world, 30, (100, 2_000))
        rows[ENGINE] = world.compare("small", [ENGINE], rounds, concurrency=64)[ENGINE]
        show("a tail: 1 % of GETs take 2 s", rows)


def seventeen(data, rounds):
    """A metric over 825 small files, no latency: CPU decides."""
    with World(data, "small") as world:
        show("825 small files of the 17-series dataset", world.compare("seventeen", [ENGINE, *PEERS], rounds))


def groups(data, rounds):
    """Ten groups beside each other."""
    with World(data, "small") as world:
        latency(world, 30)
        rows = {"engine, one alone": world.compare("group_alone", [ENGINE], rounds, concurrency=64)[ENGINE],
                ENGINE: world.compare("groups", [ENGINE], rounds, concurrency=64)[ENGINE]}
        show("ten records of ten groups, beside one alone", rows)


def wide(data, rounds):
    with World(data, "wide") as world:
        show("composite over 500 series x 5,000 points", world.compare("wide", [ENGINE, *PEERS], rounds))


def minutes(data, rounds):
    with World(data, "minutes") as world:
        for name in workloads.MINUTES:
            for output in ("parquet", "both"):
                peers = ["polars", "duckdb", "datafusion"] if output == "parquet" else ["polars"]
                rows = world.compare(name, [ENGINE, *peers], max(1, rounds // 2), output=output)
                show(f"{name}, 5.26 M rows a series, output {output}", rows)
        rows = world.compare("minute.sma", ["reference"], 1, warm=0)
        show("minute.sma, the reference", rows)


def shared(data, rounds):
    with World(data, "shared") as world:
        for ms in (0, 15):
            latency(world, ms)
            for name in ("ordered", "shuffled"):
                rows = world.compare(name, [ENGINE, "polars", "datafusion", "duckdb"], max(1, rounds // 2))
                show(f"3 of 2,000 series in 10^8 rows, {name}, first byte after {ms} ms", rows)


def memory(data, rounds):
    """Peaks of processes that did nothing else before."""
    for group, batch, limit in (("small", "seventeen", 48), ("small", "groups", 96), ("minutes", "minute.sma", 96),
                                ("minutes", "minute.basket", 96), ("long", "long", 192)):
        with World(data, group) as world:
            row = world.run(ENGINE, batch, output="parquet" if group == "long" else "both")
            show(f"peak memory of {batch}: at most {limit} MB", {ENGINE: row})


def cold(data, rounds):
    command = [os.path.join(BIN, "cold_start"), str(10 * rounds), os.path.join(BIN, "hello"), os.path.join(BIN, "worker")]
    starts = json.loads(subprocess.run(command, env=environment("http://127.0.0.1:9"), stdout=subprocess.PIPE,
                                       check=True).stdout)
    print("\n### from exec to the first poll\n\n| | median ms | best ms |\n|---|---|---|")
    for program, found in starts:
        print(f"| {os.path.basename(program)} | {statistics.median(found):.1f} | {min(found):.1f} |")
    RESULTS["cold start"] = {os.path.basename(program): statistics.median(found) for program, found in starts}


def size(data, rounds):
    binary, packed = os.path.join(BIN, "worker"), os.path.join(data, "worker.zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(binary, "bootstrap")
    sizes = {"binary": os.path.getsize(binary) / 1e6, "zip": os.path.getsize(packed) / 1e6}
    print(f"\n### size\n\nbinary {sizes['binary']:.1f} MB, zip {sizes['zip']:.1f} MB")
    RESULTS["size"] = sizes


SECTIONS = {function.__name__: function for function in
            (requests, small, tail, seventeen, groups, wide, minutes, shared, memory, cold, size)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("sections", nargs="*", default=[], metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.sections or SECTIONS:
        started = time.monotonic()
        SECTIONS[name](arguments.data, arguments.rounds)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    with open(os.path.join(arguments.data, "results.json"), "w") as out:
        json.dump(RESULTS, out, indent=1)


if __name__ == "__main__":
    main()
