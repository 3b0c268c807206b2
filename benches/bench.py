"""`make bench`: the engine and its peers on the same machine and the same local S3 server, turn by turn.

usage: bench.py DATA_FOLDER [SECTION…] [--rounds N]; without a section, all of them. Prints a table for each section:
medians of seconds, CPU seconds and peak memory, the ratio to the engine, requests and bytes. Sections are the rows of
the targets in docs/performance.md.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
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


# What the template sets for the C library, which the peers are left without.
ENGINE_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


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


class NoServer:
    """Stands where the server would: nothing is asked of it."""

    def ask(self, _):
        return {}

    def close(self):
        pass


class World:
    """One group of datasets, on the server or, where it is local, as files; and the contestants that were asked."""

    def __init__(self, data, group, local=False):
        workloads.generate(data, [group])
        self.folder = os.path.join(data, group)
        self.copy = None
        if local and group == "minutes" and os.path.isdir("/dev/shm"):
            # Its results are long: in memory, so that no disk is measured.
            self.copy = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="metrics-bench-")
            self.folder = shutil.copytree(self.folder, os.path.join(self.copy.name, group))
        self.local = [os.path.abspath(self.folder)] if local else []
        self.server = NoServer() if local else Process([os.path.join(BIN, "s3"), self.folder])
        self.env = environment("http://127.0.0.1:9" if local else self.server.read()["endpoint"])
        self.contestants = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for contestant in self.contestants.values():
            contestant.close()
        self.server.close()
        if self.copy:
            self.copy.cleanup()

    def contestant(self, name):
        if name not in self.contestants:
            command = [os.path.join(BIN, "contestant")] if name == ENGINE \
                else [sys.executable, os.path.join(HERE, "peers.py"), name]
            environment = self.env | (ENGINE_ENVIRONMENT if name == ENGINE else {})
            self.contestants[name] = Process(command + self.local, environment)
        return self.contestants[name]

    def restart(self, name):
        if name in self.contestants:
            self.contestants.pop(name).close()

    def run(self, name, batch, output="both", concurrency=None, extra=None, step=None):
        command = {"batch": os.path.join(self.folder, "events", f"{batch}.json"), "output": output}
        if name == ENGINE:
            command["env"] = {"OUTPUT_FORMAT": output} | (extra or {})
            if concurrency:
                command["env"]["READ_CONCURRENCY"] = str(concurrency)
            if step:
                command["step"] = step
        elif concurrency:
            command["concurrency"] = concurrency
        self.server.ask("drop metrics/")
        if self.local:
            shutil.rmtree(os.path.join(self.folder, "metrics"), ignore_errors=True)
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
        requests = f"{row['gets'] + row['heads'] + row['lists'] + row['puts']:.0f}" if "gets" in row else ""
        read = f"{row['sent_bytes'] / 1e6:.2f}" if "gets" in row else ""
        ratio = lambda field: f"{row[field] / ours[field]:.2f}" if ours and ours[field] else ""
        print(f"| {name} | {row['seconds']:.4f} | {ratio('seconds')} | {row['cpu']:.4f} | {ratio('cpu')} "
              f"| {row['peak_mb']:.0f} | {requests} | {read} | {row['rows']:.0f} |")
    sys.stdout.flush()


def latency(world, ms, tail=(0, 0)):
    world.server.ask(f"latency {ms}")
    world.server.ask(f"tail {tail[0]} {tail[1]}")


def place(local):
    return "local files" if local else "over S3 without latency"


def requests(data, rounds):
    """N one-series objects: what is asked of the store."""
    with World(data, "small") as world:
        show("requests: 550 objects of two series", world.compare("small", [ENGINE, *PEERS], 1, warm=0))
        show("requests: ten records over the same three series", world.compare("shared_series", [ENGINE], 1, warm=0),
             "825 objects in all: nothing is to be read twice in a batch.")


def small(data, rounds):
    """550 objects at 30 ms, at each concurrency: the reading alone, and the whole run."""
    with World(data, "small") as world:
        latency(world, 30)
        for concurrency in (16, 64, 128):
            floor = math.ceil(550 / concurrency) * 0.030
            reading = world.compare("small", [ENGINE], rounds, concurrency=concurrency, step="read")[ENGINE]
            rows = world.compare("small", [ENGINE], rounds, concurrency=concurrency)
            rows |= world.compare("small", ["polars"] if concurrency == 64 else [], max(1, rounds // 3))
            if concurrency == 64:
                rows |= world.compare("small", ["reference", "duckdb", "datafusion"], 1, warm=0, concurrency=64)
            show(f"550 objects at 30 ms, {concurrency} at a time", rows | {"engine, reading alone": reading},
                 f"The floor of the GETs alone is {floor:.3f} s; the engine's reading is "
                 f"{reading['seconds'] / floor:.2f} times that, its whole run takes "
                 f"{(rows[ENGINE]['seconds'] - reading['seconds']) / 0.030:.1f} x 30 ms more.")


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
    for local in (True, False):
        with World(data, "small", local) as world:
            rows = world.compare("seventeen", [ENGINE, *PEERS], rounds, warm=2)
            rows["engine, reading alone"] = world.compare("seventeen", [ENGINE], rounds, step="read")[ENGINE]
            show(f"825 small files of the 17-series dataset, {place(local)}", rows)


def groups(data, rounds):
    """Ten groups beside each other, where waiting decides."""
    with World(data, "small") as world:
        latency(world, 100)
        rows = {"engine, one alone": world.compare("group_alone", [ENGINE], rounds, concurrency=64)[ENGINE],
                ENGINE: world.compare("groups", [ENGINE], rounds, concurrency=64)[ENGINE]}
        show("ten records of ten groups, beside one alone, at 100 ms", rows)


def wide(data, rounds):
    for local in (True, False):
        with World(data, "wide", local) as world:
            rows = world.compare("wide", [ENGINE, *PEERS], rounds)
            show(f"composite over 500 series x 5,000 points, {place(local)}", rows)


def minutes(data, rounds):
    with World(data, "minutes", local=True) as world:
        for name in workloads.MINUTES:
            reading = world.compare(name, [ENGINE], max(1, rounds // 2), step="read")[ENGINE]
            for output in ("parquet", "both"):
                peers = ["polars", "duckdb", "datafusion"] if output == "parquet" else ["polars"]
                rows = world.compare(name, [ENGINE, *peers], max(1, rounds // 2), output=output)
                rows["engine, reading alone"] = reading
                show(f"{name}, 5.26 M rows a series, local, output {output}", rows)
        rows = world.compare("minute.sma", ["reference"], 1, warm=0)
        show("minute.sma, the reference", rows)


def shared(data, rounds):
    for local, ms in ((True, 0), (False, 15)):
        with World(data, "shared", local) as world:
            if not local:
                latency(world, ms)
            for name in ("ordered", "shuffled"):
                rows = world.compare(name, [ENGINE, "polars", "datafusion", "duckdb"], max(1, rounds // 2))
                where = "local" if local else f"first byte after {ms} ms"
                show(f"3 of 2,000 series in 10^8 rows, {name}, {where}", rows)


def memory(data, rounds):
    """Peaks of processes that did nothing else before."""
    for group, batch, limit in (("small", "seventeen", 48), ("small", "groups", 96), ("minutes", "minute.sma", 96),
                                ("minutes", "minute.basket", 96), ("long", "long", 192)):
        with World(data, group) as world:
            row = world.run(ENGINE, batch, output="parquet" if group == "long" else "both")
            show(f"peak memory of {batch}: at most {limit} MB", {ENGINE: row})


def cold(data, rounds):
    with World(data, "small") as world:
        command = [os.path.join(BIN, "cold_start"), str(10 * rounds), os.path.join(BIN, "hello"),
                   os.path.join(BIN, "worker")]
        starts = json.loads(subprocess.run(command, env=world.env, stdout=subprocess.PIPE, check=True).stdout)
    print("\n### from exec to the first poll\n\n| | median ms | best ms |\n|---|---|---|")
    for program, found in starts:
        print(f"| {os.path.basename(program)} | {statistics.median(found):.1f} | {min(found):.1f} |")
    RESULTS["cold start"] = {os.path.basename(program): statistics.median(found) for program, found in starts}
    entropy = json.loads(subprocess.run([os.path.join(BIN, "entropy")], stdout=subprocess.PIPE, check=True).stdout)
    print(f"\nThe first random bytes of a process, for TLS: {entropy['ring_ms']:.2f} ms by ring, "
          f"{entropy['aws_lc_ms']:.2f} ms by AWS-LC with the processor's jitter.")
    RESULTS["entropy"] = entropy


def size(data, rounds):
    binary, packed = os.path.join(BIN, "worker"), os.path.join(data, "worker.zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(binary, "bootstrap")
    sizes = {"binary": os.path.getsize(binary) / 1e6, "zip": os.path.getsize(packed) / 1e6}
    print(f"\n### size\n\nbinary {sizes['binary']:.1f} MB, zip {sizes['zip']:.1f} MB")
    RESULTS["size"] = sizes


# Dollars, eu-west-1, x86, without the free tier: aws.amazon.com/lambda/pricing and aws.amazon.com/s3/pricing.
GB_SECOND, INVOCATION = 0.0000166667, 0.20 / 1e6
READ_REQUEST, WRITE_REQUEST = 0.0004 / 1e3, 0.005 / 1e3
# A function has a core's time in proportion to its memory, one whole core at this size.
MB_OF_A_CORE = 1_769


def cost(data, rounds):
    """GB-seconds, requests and dollars of a run at three memory sizes, from measured CPU time, waiting and requests."""
    print("\n### cost of a run\n\n| workload | who | MB | s | GB-s | GETs | LISTs, PUTs | $ for 1,000 runs |\n|---|---|---|---|---|---|---|---|")
    for group, batch in (("small", "small"), ("small", "seventeen"), ("wide", "wide"), ("minutes", "minute.sma")):
        with World(data, group) as world:
            latency(world, 15)
            rows = world.compare(batch, [ENGINE], rounds) | world.compare(batch, ["reference"], 1, warm=1)
        RESULTS[f"cost of {batch}"] = rows
        for name, row in rows.items():
            waiting = max(0.0, row["seconds"] - row["cpu"])
            for memory_mb in (128, 512, 1_769):
                if row["peak_mb"] > memory_mb:
                    print(f"| {batch} | {name} | {memory_mb} | does not fit: {row['peak_mb']:.0f} MB | | | | |")
                    continue
                seconds = waiting + row["cpu"] * MB_OF_A_CORE / memory_mb
                gb_seconds = seconds * memory_mb / 1_024
                reads, writes = row["gets"] + row["heads"], row["lists"] + row["puts"]
                dollars = gb_seconds * GB_SECOND + INVOCATION + reads * READ_REQUEST + writes * WRITE_REQUEST
                print(f"| {batch} | {name} | {memory_mb} | {seconds:.2f} | {gb_seconds:.3f} | {reads:.0f} | {writes:.0f} "
                      f"| {dollars * 1_000:.4f} |")
    sys.stdout.flush()


SECTIONS = {function.__name__: function for function in
            (requests, small, tail, seventeen, groups, wide, minutes, shared, memory, cold, size, cost)}


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
