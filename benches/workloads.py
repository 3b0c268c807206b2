"""The benchmark's datasets and requests: written once into a folder that the local S3 server then holds.

Each workload is a dataset below datasets/<id>/, as the contracts say, and one SQS batch in events/<name>.json.
"""

import json
import os
import sys
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY_NS = 86_400_000_000_000
MINUTE_NS = 60_000_000_000


def month_starts(first_year, count):
    return [np.datetime64(f"{first_year + m // 12}-{m % 12 + 1:02d}", "M") for m in range(count)]


def table(times, values, code, extra=True):
    columns = {
        "obs_time": pa.array(times, pa.timestamp("ns", "UTC")),
        "value": pa.array(values, pa.float64()),
        "internal_series_code": pa.array([code] * len(times)).dictionary_encode(),
    }
    if extra:
        columns["unit"] = pa.array(["ARS"] * len(times)).dictionary_encode()
        columns["frequency"] = pa.array(["D"] * len(times)).dictionary_encode()
    return pa.table(columns)


class Folder:
    def __init__(self, root):
        self.root = root

    def path(self, key):
        path = os.path.join(self.root, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def manifest(self, dataset, files, codes):
        body = {"version_id": "v1", "dataset_id": dataset, "created_at": "2026-01-01T00:00:00Z",
                "data_points_count": 0, "series_count": len(codes), "series_codes": codes,
                "parquet_files": files, "partitions": [], "partition_strategy": "series_year_month"}
        with open(self.path(f"datasets/{dataset}/versions/v1/manifest.json"), "w") as out:
            json.dump(body, out)

    def monthly(self, dataset, codes, months, first_year=2003):
        """One file of a month's working days for each series and month: about 2 KB each."""
        random, files = np.random.default_rng(7), []
        for code in codes:
            for month in month_starts(first_year, months):
                days = np.arange(month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]"))
                days = days[np.is_busday(days)]
                name = f"{code}/year={str(month)[:4]}/month={str(month)[5:7]}/data.parquet"
                rows = table(days.astype("datetime64[ns]"), np.round(random.normal(100, 5, len(days)), 4), code)
                pq.write_table(rows, self.path(f"datasets/{dataset}/projections/{name}"))
                files.append(name)
        self.manifest(dataset, files[-len(codes):], codes)

    def one_file_each(self, dataset, codes, times, decimals=4):
        random, files = np.random.default_rng(11), []
        for code in codes:
            values = np.round(100 + np.cumsum(random.normal(0, 0.01, len(times))), decimals)
            name = f"{code}/data.parquet"
            rows = table(times, values, code, extra=False).select(["obs_time", "value"])
            pq.write_table(rows, self.path(f"datasets/{dataset}/projections/{name}"), row_group_size=1_000_000)
            files.append(name)
        self.manifest(dataset, files, codes)

    def shared(self, dataset, series, points, rows_a_file, is_shuffled):
        """Files of many series, a page index and bloom filters in each; series ascending, or in no order."""
        codes = [f"SERIES_{number:05d}" for number in range(series)]
        order = np.random.default_rng(3).permutation(series) if is_shuffled else np.arange(series)
        random, files = np.random.default_rng(5), []
        times = np.arange(points, dtype="int64") * MINUTE_NS
        a_file, a_group = rows_a_file // points, 1_000_000 // points
        for start in range(0, series, a_file):
            name, writer = f"all/part-{start // a_file:04d}.parquet", None
            for first in range(start, min(start + a_file, series), a_group):
                members = np.sort(order[first:first + a_group]) if not is_shuffled else order[first:first + a_group]
                names = pa.DictionaryArray.from_arrays(
                    pa.array(np.repeat(np.arange(len(members), dtype="int32"), points)),
                    pa.array([codes[member] for member in members]))
                rows = pa.table({
                    "obs_time": pa.array(np.tile(times, len(members)), pa.timestamp("ns", "UTC")),
                    "value": pa.array(np.round(random.normal(100, 5, len(members) * points), 3)),
                    "internal_series_code": names.cast(pa.string()).dictionary_encode()})
                if writer is None:
                    writer = pq.ParquetWriter(
                        self.path(f"datasets/{dataset}/projections/{name}"), rows.schema, write_page_index=True,
                        bloom_filter_options={"internal_series_code": True})
                writer.write_table(rows, row_group_size=1_000_000)
            writer.close()
            files.append(name)
        self.manifest(dataset, files, codes)

    def batch(self, name, dataset, expressions):
        """An SQS batch with a record, in a group of its own, for each expression."""
        records = []
        for number, (code, expression) in enumerate(expressions.items()):
            series = []
            collect(expression, series)
            kind = "composite" if "operands" in expression else "series_math" if "left" in expression else "window_op"
            request = {"type": "metric_run_requested", "runId": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}{code}")),
                       "metricCode": code, "expressionType": kind, "expressionJson": expression,
                       "inputs": [{"datasetId": dataset, "seriesCode": one} for one in series],
                       "catalog": {"datasets": {dataset: {
                           "manifestPath": f"datasets/{dataset}/versions/v1/manifest.json",
                           "projectionsPath": f"datasets/{dataset}/projections/"}}},
                       "output": {"basePath": f"s3://bench/metrics/{code}/"}}
            records.append({
                "messageId": f"m-{number}", "receiptHandle": f"r-{number}", "body": json.dumps(request),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0", "MessageGroupId": code,
                               "MessageDeduplicationId": request["runId"], "SequenceNumber": str(number),
                               "SenderId": "bench", "ApproximateFirstReceiveTimestamp": "0"},
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:requests.fifo"})
        with open(self.path(f"events/{name}.json"), "w") as out:
            json.dump({"Records": records}, out)


def series(code):
    return {"series_code": code}


def collect(expression, into):
    if "series_code" in expression:
        if expression["series_code"] not in into:
            into.append(expression["series_code"])
        return
    for operand in expression.get("operands", []):
        collect(operand, into)
    for side in ("left", "right", "series"):
        if side in expression:
            collect(expression[side], into)


def window(op, length, of):
    return {"op": op, "series": of, "window": length}


MINUTES = {
    "minute.sma": window("sma", 1440, series("M0")),
    "minute.ema": window("ema", 60, series("M0")),
    "minute.max": window("max", 1440, series("M0")),
    "minute.difference": {"op": "subtract", "left": series("M0"), "right": series("M1")},
    "minute.return_7d": {"op": "ratio", "left": series("M0"), "right": window("lag", 7, series("M0"))},
    "minute.basket": {"op": "sum", "operands": [series(f"M{number}") for number in range(6)]},
}


def small(folder):
    folder.monthly("small", ["SMALL_A", "SMALL_B"], 275)
    folder.batch("small", "small", {"small": {"op": "ratio", "left": series("SMALL_A"), "right": series("SMALL_B")}})
    codes = [f"S{number:02d}" for number in range(17)]
    folder.monthly("seventeen", codes, 275)
    ratio = {"op": "ratio", "left": {"op": "multiply", "left": series("S00"), "right": series("S01")},
             "right": series("S02")}
    folder.batch("seventeen", "seventeen", {"seventeen": ratio})
    folder.batch("shared_series", "seventeen", {f"shared_series.{n}": ratio for n in range(10)})
    folder.batch("groups", "seventeen", {f"groups.{n}": window("sma", 5, series(codes[n])) for n in range(10)})
    folder.batch("group_alone", "seventeen", {"group_alone": window("sma", 5, series(codes[0]))})


def wide(folder):
    times = np.arange(5_000, dtype="int64") * DAY_NS
    codes = [f"W{number:03d}" for number in range(500)]
    folder.one_file_each("wide", codes, times)
    folder.batch("wide", "wide", {"wide": {"op": "sum", "operands": [series(code) for code in codes]}})


def minutes(folder):
    times = np.arange(5_260_000, dtype="int64") * MINUTE_NS + np.int64(1_420_070_400_000_000_000)
    folder.one_file_each("minute", [f"M{number}" for number in range(6)], times)
    for name, expression in MINUTES.items():
        folder.batch(name, "minute", {name: expression})


def long(folder):
    """10^8 observations of one series, in ten files that follow each other."""
    random, files = np.random.default_rng(13), []
    for part in range(10):
        times = (np.arange(10_000_000, dtype="int64") + part * 10_000_000) * 1_000_000_000
        name = f"LONG/part-{part:02d}.parquet"
        rows = pa.table({"obs_time": pa.array(times, pa.timestamp("ns", "UTC")),
                         "value": np.round(random.normal(100, 5, len(times)), 3)})
        pq.write_table(rows, folder.path(f"datasets/long/projections/{name}"), row_group_size=1_000_000)
        files.append(name)
    folder.manifest("long", files, ["LONG"])
    folder.batch("long", "long", {"long": window("sma", 1440, series("LONG"))})


def shared(folder):
    three = {"op": "sum", "operands": [series(f"SERIES_{number:05d}") for number in (17, 1_003, 1_998)]}
    for dataset, is_shuffled in (("ordered", False), ("shuffled", True)):
        folder.shared(dataset, 2_000, 50_000, 10_000_000, is_shuffled)
        folder.batch(dataset, dataset, {dataset: three})


GROUPS = {"small": small, "wide": wide, "minutes": minutes, "long": long, "shared": shared}


def generate(root, groups):
    """Writes each group of datasets once: a finished one leaves a mark."""
    for group in groups:
        mark = os.path.join(root, f".{group}")
        if not os.path.exists(mark):
            print(f"writing the {group} datasets", file=sys.stderr, flush=True)
            GROUPS[group](Folder(os.path.join(root, group)))
            open(mark, "w").close()


if __name__ == "__main__":
    generate(sys.argv[1], sys.argv[2:] or list(GROUPS))
