"""One peer of the engine as a contestant: reads the series of a request from S3, evaluates, writes JSONL and Parquet.

usage: peers.py reference|polars|duckdb|datafusion [FOLDER], the folder being read and written in the place of S3; then
as for contestant.rs, a line of JSON for each batch: {"batch": FILE, "output": "both"|"parquet"|"none", "concurrency": N}.
Every peer does what its users would write: list, scan with the columns and the series pushed down, outer join,
evaluate, encode, one PUT for each file by the same client.
"""

import io
import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

BUCKET = "bench"
DAY_NS = 86_400_000_000_000


class Bucket:
    """The objects on S3."""

    def __init__(self):
        import boto3
        import botocore.config
        self.endpoint = os.environ["AWS_ENDPOINT_URL"]
        self.key, self.secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self.s3 = boto3.client("s3", config=botocore.config.Config(max_pool_connections=64))

    def url(self, key):
        return f"s3://{BUCKET}/{key}"

    def listing(self, prefix):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def get(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put(self, key, body):
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)


class Folder:
    """The same objects as files."""

    def __init__(self, root):
        self.root = root

    def url(self, key):
        return os.path.join(self.root, key)

    def listing(self, prefix):
        found = [os.path.join(at, name) for at, _, names in os.walk(self.url(prefix)) for name in names]
        return sorted(os.path.relpath(path, self.root) for path in found)

    def get(self, key):
        with open(self.url(key), "rb") as file:
            return file.read()

    def put(self, key, body):
        os.makedirs(os.path.dirname(self.url(key)), exist_ok=True)
        with open(self.url(key), "wb") as file:
            file.write(body)


STORE = Folder(sys.argv[2]) if len(sys.argv) > 2 else Bucket()
IS_LOCAL = isinstance(STORE, Folder)


def leaves(expression):
    if "series_code" in expression:
        return [expression["series_code"]]
    below = expression.get("operands") or [expression[side] for side in ("left", "right", "series") if side in expression]
    return list(dict.fromkeys(code for one in below for code in leaves(one)))


class Reference:
    """pandas over pyarrow datasets, a thread for each series, as the reference worker reads."""

    def __init__(self):
        import pandas as pd
        import pyarrow as pa
        import pyarrow.dataset as ds
        import pyarrow.fs as fs
        self.pd, self.pa, self.ds = pd, pa, ds
        self.files = fs.LocalFileSystem() if IS_LOCAL else fs.S3FileSystem(
            endpoint_override=STORE.endpoint.removeprefix("http://"), scheme="http", access_key=STORE.key,
            secret_key=STORE.secret, region="us-east-1")

    def concurrency(self, count):
        self.pa.set_io_thread_count(count)

    def read(self, folder, code, shared):
        keys = STORE.listing(f"{folder}all/" if shared else f"{folder}{code}/")
        paths = [STORE.url(key).removeprefix("s3://") for key in keys]
        dataset = self.ds.dataset(paths, format="parquet", filesystem=self.files)
        is_named = "internal_series_code" in dataset.schema.names
        wanted = self.ds.field("internal_series_code") == code if is_named else None
        frame = dataset.to_table(columns=["obs_time", "value"], filter=wanted).to_pandas()
        return frame.drop_duplicates("obs_time", keep="last").set_index("obs_time")["value"].sort_index()

    def evaluate(self, expression, read):
        if "series_code" in expression:
            return read[expression["series_code"]]
        op = expression["op"]
        if "operands" in expression:
            frame = self.pd.concat([self.evaluate(one, read) for one in expression["operands"]], axis=1)
            return frame.sum(axis=1, min_count=1)
        if "left" in expression:
            sides = [self.evaluate(expression[side], read) for side in ("left", "right")]
            left, right = sides[0].align(sides[1], join="outer")
            return {"ratio": left.div, "multiply": left.mul, "subtract": left.sub}[op](right)
        of, length = self.evaluate(expression["series"], read), expression["window"]
        if op == "lag":
            positions = of.index.searchsorted(of.index - self.pd.Timedelta(days=length), side="right") - 1
            values = of.to_numpy()[positions]
            values[positions < 0] = float("nan")
            return self.pd.Series(values, of.index)
        rolling = of.rolling(length, min_periods=length)
        return {"sma": rolling.mean, "max": rolling.max, "ema": lambda: of.ewm(span=length, adjust=False).mean()}[op]()

    def run(self, folder, expression, codes, shared):
        with ThreadPoolExecutor(8) as pool:
            read = dict(zip(codes, pool.map(lambda code: self.read(folder, code, shared), codes)))
        return self.evaluate(expression, read).rename("value").reset_index()

    def rows(self, frame):
        return len(frame)

    def parquet(self, frame):
        out = io.BytesIO()
        frame.to_parquet(out, compression="snappy")
        return out.getvalue()

    def jsonl(self, frame):
        return frame.to_json(orient="records", lines=True, date_format="iso").encode()


class Polars:
    def __init__(self):
        import polars as pl
        self.pl = pl
        self.options = None if IS_LOCAL else {
            "aws_endpoint_url": STORE.endpoint, "aws_access_key_id": STORE.key, "aws_secret_access_key": STORE.secret,
            "aws_region": "us-east-1", "aws_allow_http": "true"}

    def concurrency(self, count):
        pass

    def scan(self, folder, code, shared, name):
        pl = self.pl
        keys = STORE.listing(f"{folder}all/" if shared else f"{folder}{code}/")
        frame = pl.scan_parquet([STORE.url(key) for key in keys], storage_options=self.options,
                                glob=False, hive_partitioning=False)
        if shared:
            frame = frame.filter(pl.col("internal_series_code").cast(pl.String) == code)
        return frame.select("obs_time", pl.col("value").alias(name))

    def evaluate(self, expression, column):
        pl = self.pl
        if "series_code" in expression:
            return column(expression["series_code"])
        op = expression["op"]
        if "operands" in expression:
            sides = [self.evaluate(one, column) for one in expression["operands"]]
            return pl.when(pl.any_horizontal([one.is_not_null() for one in sides])).then(pl.sum_horizontal(sides))
        if "left" in expression:
            left, right = (self.evaluate(expression[side], column) for side in ("left", "right"))
            return {"ratio": left / right, "multiply": left * right, "subtract": left - right}[op]
        of, length = self.evaluate(expression["series"], column), expression["window"]
        return {"sma": lambda: of.rolling_mean(length), "max": lambda: of.rolling_max(length),
                "ema": lambda: of.ewm_mean(span=length, adjust=False)}[op]()

    def run(self, folder, expression, codes, shared):
        pl = self.pl
        frames = [self.scan(folder, code, shared, f"v{number}") for number, code in enumerate(codes)]
        frames = pl.collect_all(frames)
        joined = frames[0]
        if len(frames) > 8:
            long = pl.concat([one.select("obs_time", pl.col(f"v{n}").alias("value")) for n, one in enumerate(frames)])
            total = pl.when(pl.col("value").is_not_null().any()).then(pl.col("value").sum()).alias("value")
            return long.group_by("obs_time").agg(total).sort("obs_time")
        for one in frames[1:]:
            joined = joined.join(one, on="obs_time", how="full", coalesce=True)
        joined = joined.sort("obs_time")
        if has_lag(expression):
            length = expression["right"]["window"]
            before = joined.select(pl.col("obs_time").alias("then"), pl.col("v0").alias("before"))
            with_then = joined.with_columns((pl.col("obs_time") - pl.duration(days=length, time_unit="ns")).alias("then"))
            joined = with_then.join_asof(before, on="then", strategy="backward")
            return joined.select("obs_time", (pl.col("v0") / pl.col("before")).alias("value"))
        column = lambda code: pl.col(f"v{codes.index(code)}")
        return joined.select("obs_time", self.evaluate(expression, column).alias("value"))

    def rows(self, frame):
        return frame.height

    def parquet(self, frame):
        out = io.BytesIO()
        frame.write_parquet(out, compression="snappy")
        return out.getvalue()

    def jsonl(self, frame):
        out = io.BytesIO()
        frame.with_columns(self.pl.col("obs_time").dt.to_string("iso")).write_ndjson(out)
        return out.getvalue()


def has_lag(expression):
    return expression.get("right", {}).get("op") == "lag"


class Sql:
    """What the two SQL engines share: one query, its text."""

    def query(self, expression, codes, source):
        parts = [f"t{number} AS (SELECT obs_time, value AS v{number} FROM {source(code)})"
                 for number, code in enumerate(codes)]
        if len(codes) > 8:
            union = " UNION ALL ".join(f"SELECT obs_time, value FROM {source(code)}" for code in codes)
            return f"SELECT obs_time, sum(value) AS value FROM ({union}) GROUP BY obs_time ORDER BY obs_time"
        # One table more at a time: what a second USING means is not the same to all engines.
        for number in range(1, len(codes)):
            before = "t0" if number == 1 else f"joined{number - 1}"
            parts.append(f"joined{number} AS (SELECT * FROM {before} FULL JOIN t{number} USING (obs_time))")
        last = f"joined{len(codes) - 1}" if len(codes) > 1 else "t0"
        parts.append(f"joined AS (SELECT * FROM {last})")
        if has_lag(expression):
            days = expression["right"]["window"]
            return (f"WITH {', '.join(parts)} SELECT a.obs_time, a.v0 / b.v0 AS value FROM joined a "
                    f"ASOF LEFT JOIN joined b ON a.obs_time - INTERVAL {days} DAY >= b.obs_time ORDER BY 1")
        value = self.value(expression, lambda code: f"v{codes.index(code)}")
        return f"WITH {', '.join(parts)} SELECT obs_time, {value} AS value FROM joined ORDER BY obs_time"

    def value(self, expression, column):
        if "series_code" in expression:
            return column(expression["series_code"])
        op = expression["op"]
        if "operands" in expression:
            sides = [self.value(one, column) for one in expression["operands"]]
            total = " + ".join(f"coalesce({one}, 0)" for one in sides)
            return f"CASE WHEN coalesce({', '.join(sides)}) IS NULL THEN NULL ELSE {total} END"
        if "left" in expression:
            left, right = (self.value(expression[side], column) for side in ("left", "right"))
            return f"({left} {dict(ratio='/', multiply='*', subtract='-')[op]} {right})"
        of, length = self.value(expression["series"], column), expression["window"]
        if op == "ema":
            raise NotImplementedError("no recursive mean in SQL")
        function = {"sma": "avg", "max": "max"}[op]
        over = f"OVER (ORDER BY obs_time ROWS BETWEEN {length - 1} PRECEDING AND CURRENT ROW)"
        return f"CASE WHEN count(*) {over} = {length} THEN {function}({of}) {over} END"

    def rows(self, table):
        return table.num_rows

    def parquet(self, table):
        import pyarrow.parquet as pq
        out = io.BytesIO()
        pq.write_table(table, out, compression="snappy")
        return out.getvalue()

    def jsonl(self, table):
        import polars as pl
        out = io.BytesIO()
        pl.from_arrow(table).with_columns(pl.col("obs_time").dt.to_string("iso")).write_ndjson(out)
        return out.getvalue()


class Duckdb(Sql):
    def __init__(self):
        import duckdb
        import duckdb_extension_httpfs
        self.database = duckdb.connect()
        folder = os.path.dirname(duckdb_extension_httpfs.__file__)
        found = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names
                 if name.endswith(".duckdb_extension")]
        self.database.execute(f"LOAD '{found[0]}'")
        self.database.execute("SET TimeZone='UTC'; SET enable_object_cache=false; SET enable_external_file_cache=false")
        if IS_LOCAL:
            return
        for name, value in (("s3_endpoint", STORE.endpoint.removeprefix("http://")), ("s3_access_key_id", STORE.key),
                            ("s3_secret_access_key", STORE.secret), ("s3_url_style", "path"),
                            ("s3_region", "us-east-1"), ("s3_use_ssl", "false")):
            self.database.execute(f"SET {name}='{value}'")

    def concurrency(self, count):
        self.database.execute(f"SET threads={count}")

    def run(self, folder, expression, codes, shared):
        def source(code):
            keys = STORE.listing(f"{folder}all/" if shared else f"{folder}{code}/")
            urls = ", ".join(f"'{STORE.url(key)}'" for key in keys)
            scan = f"read_parquet([{urls}], hive_partitioning=false)"
            return f"(SELECT obs_time, value FROM {scan} WHERE internal_series_code = '{code}')" if shared else scan
        return self.database.execute(self.query(expression, codes, source)).to_arrow_table()


class Datafusion(Sql):
    def __init__(self):
        from datafusion import SessionContext
        from datafusion.object_store import AmazonS3
        self.new_context = SessionContext
        self.store = None if IS_LOCAL else AmazonS3(
            bucket_name=BUCKET, region="us-east-1", access_key_id=STORE.key, secret_access_key=STORE.secret,
            endpoint=STORE.endpoint, allow_http=True)

    def concurrency(self, count):
        pass

    def run(self, folder, expression, codes, shared):
        if has_lag(expression):
            raise NotImplementedError("no ASOF JOIN")
        context = self.new_context()
        if self.store:
            context.register_object_store("s3://", self.store, None)
        if shared:
            context.register_parquet("shared", STORE.url(f"{folder}all/"))
        else:
            for number, code in enumerate(codes):
                context.register_parquet(f"s{number}", STORE.url(f"{folder}{code}/"))

        def source(code):
            if shared:
                return f"(SELECT obs_time, value FROM shared WHERE internal_series_code = '{code}')"
            return f"s{codes.index(code)}"
        return context.sql(self.query(expression, codes, source)).to_arrow_table()


def peak_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    peer = {"reference": Reference, "polars": Polars, "duckdb": Duckdb, "datafusion": Datafusion}[sys.argv[1]]()
    for line in sys.stdin:
        command = json.loads(line)
        with open(command["batch"]) as text:
            requests = [json.loads(record["body"]) for record in json.load(text)["Records"]]
        if "concurrency" in command:
            peer.concurrency(command["concurrency"])
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        started, cpu, rows = time.perf_counter(), cpu_seconds(), 0
        try:
            for request in requests:
                dataset = next(iter(request["catalog"]["datasets"].values()))
                manifest = json.loads(STORE.get(dataset["manifestPath"]))
                expression, codes = request["expressionJson"], leaves(request["expressionJson"])
                shared = manifest["parquet_files"][0].startswith("all/")
                result = peer.run(dataset["projectionsPath"], expression, codes, shared)
                rows += peer.rows(result)
                base = f"metrics/{request['metricCode']}/{sys.argv[1]}"
                if command.get("output", "both") in ("both", "jsonl"):
                    STORE.put(f"{base}/metrics.jsonl", peer.jsonl(result))
                if command.get("output", "both") in ("both", "parquet"):
                    STORE.put(f"{base}/metrics.parquet", peer.parquet(result))
        except NotImplementedError as reason:
            print(json.dumps({"skipped": str(reason)}), flush=True)
            continue
        print(json.dumps({"seconds": time.perf_counter() - started, "cpu": cpu_seconds() - cpu, "peak_mb": peak_mb(),
                          "rows": rows}), flush=True)


if __name__ == "__main__":
    main()
