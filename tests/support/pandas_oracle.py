"""The rules of expressions in pandas: cases as JSON on standard input, their values as JSON on standard output.

Floats that JSON has no text for are the strings "inf" and "-inf"; in answers every float is a string that reads back to it.
"""

import json
import math
import sys
import zoneinfo
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd

# The zones of the tzdata package: the same on every machine.
zoneinfo.reset_tzpath(to=[])

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1)


def series_of(observations):
    times = pd.Index([time for time, _ in observations], dtype="int64")
    values = [math.nan if value is None else float(value) for _, value in observations]
    series = pd.Series(values, index=times, dtype="float64")
    return series[~series.index.duplicated(keep="last")].sort_index()


def outer_join(operands):
    return pd.concat(operands, axis=1, join="outer", keys=range(len(operands))).sort_index()


def exact_sum(values):
    # pandas' own sums drift where large values leave a window or cancel; fsum is exact, and refuses infinities.
    return math.fsum(values) if np.isfinite(values).all() else float(np.sum(values))


def math_op(op, left, right, scale):
    frame = outer_join([left, right])
    left, right = frame[0], frame[1]
    result = {"add": left.add, "subtract": left.sub, "multiply": left.mul, "ratio": left.div}[op](right)
    return result * scale


def local_days_before(time, days, zone):
    seconds, nanoseconds = divmod(time, SECOND)
    local = (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=timezone.utc).astimezone(zone)
    try:
        # fold=0 is what RFC 5545 asks for: the first of two, and the offset before a gap.
        earlier = (local.replace(tzinfo=None) - timedelta(days=days)).replace(tzinfo=zone, fold=0)
        utc = earlier.astimezone(timezone.utc).replace(tzinfo=None)
    except OverflowError:
        return None
    return (utc - EPOCH) // timedelta(seconds=1) * SECOND + nanoseconds


def lag(series, days, zone):
    targets = [local_days_before(time, days, zone) for time in series.index]
    smallest = np.iinfo("int64").min
    in_range = [smallest if target is None else max(target, smallest) for target in targets]
    left = pd.DataFrame({"time": pd.Series(in_range, dtype="int64"), "row": range(len(series))})
    right = pd.DataFrame({"time": series.index, "value": series.to_numpy()})
    found = pd.merge_asof(left.sort_values("time"), right, on="time", direction="backward").sort_values("row")
    return pd.Series(found["value"].to_numpy(), index=series.index, dtype="float64")


def window_op(op, series, window, zone):
    if op == "lag":
        return lag(series, window, zone)
    finite = series.where(np.isfinite(series))
    if op == "ema":
        # pandas 3.0 and 3.1 weigh the first value after a null differently for a span of exactly 3, by a regression
        # (pandas-dev/pandas#66521); the float beside 3 avoids it.
        span = math.nextafter(3.0, 4.0) if window == 3 else window
        return finite.ewm(span=span, adjust=False, ignore_na=False).mean()
    rolling = finite.rolling(window, min_periods=window)
    if op == "max":
        return rolling.max()
    if op == "min":
        return rolling.min()
    total = rolling.apply(exact_sum, raw=True)
    return total if op == "sum" else total / window


def composite(op, operands, nulls):
    frame = outer_join(operands)
    if op == "max":
        result = frame.max(axis=1)
    elif op == "min":
        result = frame.min(axis=1)
    else:
        totals = [exact_sum(row[~np.isnan(row)]) if not np.isnan(row).all() else math.nan for row in frame.to_numpy()]
        result = pd.Series(totals, index=frame.index, dtype="float64")
        if op == "avg":
            result = result / frame.count(axis=1)
    return result.where(frame.notna().all(axis=1)) if nulls == "propagate" else result


def evaluate(node, series, zone):
    if "series_code" in node:
        return series[node["series_code"]]
    if "left" in node:
        left, right = evaluate(node["left"], series, zone), evaluate(node["right"], series, zone)
        return math_op(node["op"], left, right, node["scale"])
    if "series" in node:
        return window_op(node["op"], evaluate(node["series"], series, zone), node["window"], zone)
    operands = [evaluate(operand, series, zone) for operand in node["operands"]]
    return composite(node["op"], operands, node["nulls"])


def answer(case):
    series = {code: series_of(observations) for code, observations in case["series"].items()}
    result = evaluate(case["expression"], series, zoneinfo.ZoneInfo(case["zone"]))
    return [[int(time), None if math.isnan(value) else repr(float(value))] for time, value in result.items()]


if __name__ == "__main__":
    np.seterr(all="ignore")
    json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)
