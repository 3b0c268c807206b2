#!/usr/bin/env python3
"""Writes events/*.json: SQS FIFO batches as Lambda receives them, over the sample dataset.

Everything is derived from the tables below, so the same script gives the same bytes on every machine. With --check
nothing is written: the script fails where a file differs from what it would write.
"""

import hashlib
import json
import sys
import uuid
from pathlib import Path

EVENTS = Path(__file__).resolve().parent.parent / "events"
QUEUE_ARN = "arn:aws:sqs:us-east-1:000000000000:metric-run-requests.fifo"
TOPIC_ARN = "arn:aws:sns:us-east-1:000000000000:metric-run-requests.fifo"
SENDER_ID = "AROAEXAMPLEEXAMPLE:control"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:metrics-engine:events")

# What `metrics dataset build` derives from the newest day of sample-data/eurofxref-hist.csv.
DATASET = "ecb_fx"
VERSION = "v20261030_160000_000000"
# 2026-10-30T16:05:00Z: the first request is sent five minutes after the dataset's version.
FIRST_SENT_MS = 1_793_376_300_000


def series(currency):
    return {"series_code": f"ECB_EUR_{currency}_D"}


def camel_series(currency):
    return {"seriesCode": f"ECB_EUR_{currency}_D"}


def math(op, left, right, scale=None):
    node = {"op": op, "left": left, "right": right}
    return node if scale is None else {**node, "scale": scale}


def window(op, operand, length):
    return {"op": op, "series": operand, "window": length}


def composite(op, *operands, nulls=None):
    node = {"op": op, "operands": list(operands)}
    return node if nulls is None else {**node, "nulls": nulls}


def kind(expression):
    if "operands" in expression:
        return "composite"
    return "window_op" if "window" in expression else "series_math"


def codes(node):
    """The series that an expression refers to, each once, in the order of their first mention."""
    found = []
    if isinstance(node, dict):
        code = node.get("series_code") or node.get("seriesCode")
        children = [[code]] if code else [codes(child) for child in node.values()]
    elif isinstance(node, list):
        children = [codes(child) for child in node]
    else:
        children = []
    for child in children:
        found.extend(code for code in child if code not in found)
    return found


def request(metric, expression, run=None, **changes):
    run_id = str(uuid.uuid5(NAMESPACE, run or metric))
    body = {
        "schema": "metrics.run.v1",
        "type": "metric_run_requested",
        "runId": run_id,
        "metricCode": metric,
        "expressionType": kind(expression),
        "expressionJson": expression,
        "inputs": [{"datasetId": DATASET, "seriesCode": code} for code in codes(expression)],
        "catalog": {
            "datasets": {
                DATASET: {
                    "manifestPath": f"datasets/{DATASET}/versions/{VERSION}/manifest.json",
                    "projectionsPath": f"datasets/{DATASET}/projections/",
                }
            }
        },
        "output": {"basePath": f"s3://bucket/metrics/{metric}/"},
        "messageGroupId": metric,
        "messageDeduplicationId": run_id,
    }
    body.update(changes)
    return body


def without_projections_path(body):
    del body["catalog"]["datasets"][DATASET]["projectionsPath"]
    return body


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def bare(body):
    return {"group": body["metricCode"], "deduplication": body["runId"], "body": compact(body)}


def sns(body):
    attributes = {name: {"Type": "String", "Value": body[name]} for name in ("type", "metricCode")}
    envelope = {
        "Type": "Notification",
        "MessageId": str(uuid.uuid5(NAMESPACE, "sns:" + body["runId"])),
        "SequenceNumber": "10000000000000003000",
        "TopicArn": TOPIC_ARN,
        "Message": compact(body),
        "Timestamp": "2026-10-30T16:05:00.000Z",
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
        "MessageAttributes": attributes,
    }
    return {**bare(body), "body": compact(envelope)}


def poison(group, text):
    deduplication = hashlib.sha256(text.encode()).hexdigest()
    return {"group": group, "deduplication": deduplication, "body": text}


USD, JPY, GBP, CHF = series("USD"), series("JPY"), series("GBP"), series("CHF")
JPY_FOR_USD = math("ratio", JPY, USD)
FX_USD_JPY = request("fx.usd_jpy", JPY_FOR_USD)


def percent_above(value, mean):
    return math("ratio", math("subtract", value, mean), mean, scale=100)


def in_dollars(currency):
    """Dollars for one unit of the currency."""
    return math("ratio", USD, series(currency))


def file_01_cross_rate():
    return [bare(FX_USD_JPY)]


def file_02_moving_average_sns():
    return [sns(request("fx.eur_chf_sma_200", window("sma", camel_series("CHF"), 200)))]


def file_03_macd():
    macd = math("subtract", window("ema", USD, 12), window("ema", camel_series("USD"), 26))
    return [bare(request("fx.eur_usd_macd", macd))]


def file_04_ninety_day_change():
    change = percent_above(GBP, window("lag", GBP, 90))
    return [bare(without_projections_path(request("fx.eur_gbp_change_90d_percent", change)))]


def file_05_composite_with_gaps():
    currencies = [in_dollars(currency) for currency in ("TRY", "BRL", "RUB", "ISK")]
    mean = composite("avg", *currencies)
    strict_sum = composite("sum", series("ISK"), series("RUB"), nulls="propagate")
    return [bare(request("fx.emerging_in_usd_avg", mean)), bare(request("fx.isk_plus_rub_strict", strict_sum))]


def file_06_several_groups():
    highest, lowest = window("max", series("SEK"), 250), window("min", series("SEK"), 250)
    return [
        bare(request("fx.gbp_usd", math("ratio", USD, GBP))),
        bare(request("fx.eur_sek_year_range", math("subtract", highest, lowest))),
        sns(request("fx.eur_pln_sma_20", window("sma", series("PLN"), 20))),
        bare(request("fx.gbp_usd", math("ratio", USD, GBP), run="fx.gbp_usd.second")),
    ]


def file_07_poison_in_the_middle():
    metric, expression = "fx.eur_bgn_sum_5", window("sum", series("BGN"), 5)
    before, after = (bare(request(metric, expression, run=run)) for run in ("bgn.before", "bgn.after"))
    return [before, poison(metric, '{"type":"metric_run_requested","runId":'), after]


def file_08_invalid_expression():
    return [bare(request("fx.eur_usd_median", window("median", USD, 20)))]


def file_09_duplicate_delivery():
    record = bare(request("fx.chf_jpy", math("ratio", JPY, CHF)))
    return [record, {**record, "receive_count": 2}]


def file_10_missing_series():
    return [bare(request("fx.eur_xau", math("multiply", series("XAU"), USD)))]


def file_11_deep_nesting():
    basket = composite("avg", in_dollars("GBP"), in_dollars("CHF"), math("ratio", USD, JPY, scale=100), nulls="propagate")
    smooth = window("ema", basket, 10)
    swing = percent_above(smooth, window("sma", smooth, 250))
    momentum = math("subtract", swing, window("lag", swing, 30))
    return [bare(request("fx.dollar_basket_momentum", composite("max", momentum, window("sma", momentum, 60))))]


def file_12_foreign_bucket():
    output = {"basePath": "s3://somebody-elses-bucket/metrics/fx.eur_usd_foreign/"}
    return [bare(request("fx.eur_usd_foreign", window("sma", USD, 5), output=output))]


def file_13_conflicting_run():
    conflict = request("fx.usd_jpy", math("ratio", USD, JPY), run="fx.usd_jpy")
    assert conflict["runId"] == FX_USD_JPY["runId"]
    return [bare({**conflict, "messageDeduplicationId": conflict["runId"] + ".2"})]


BATCHES = {
    "01-cross-rate": file_01_cross_rate,
    "02-moving-average-sns": file_02_moving_average_sns,
    "03-macd": file_03_macd,
    "04-ninety-day-change": file_04_ninety_day_change,
    "05-composite-with-gaps": file_05_composite_with_gaps,
    "06-several-groups": file_06_several_groups,
    "07-poison-in-the-middle": file_07_poison_in_the_middle,
    "08-invalid-expression": file_08_invalid_expression,
    "09-duplicate-delivery": file_09_duplicate_delivery,
    "10-missing-series": file_10_missing_series,
    "11-deep-nesting": file_11_deep_nesting,
    "12-foreign-bucket": file_12_foreign_bucket,
    "13-conflicting-run": file_13_conflicting_run,
}


def record(name, index, number, message):
    """A record as SQS hands it to Lambda; `number` counts the records of all files."""
    place = f"{name}:{index}"
    sent_ms = FIRST_SENT_MS + 1_000 * number
    receipt = hashlib.sha256(place.encode()).hexdigest()
    return {
        "messageId": str(uuid.uuid5(NAMESPACE, "sqs:" + place)),
        "receiptHandle": f"AQEB{receipt}",
        "body": message["body"],
        "attributes": {
            "ApproximateReceiveCount": str(message.get("receive_count", 1)),
            "SentTimestamp": str(sent_ms),
            "SequenceNumber": str(18_890_000_000_000_000_000 + 256 * number),
            "MessageGroupId": message["group"],
            "SenderId": SENDER_ID,
            "MessageDeduplicationId": message["deduplication"],
            "ApproximateFirstReceiveTimestamp": str(sent_ms + 20),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(message["body"].encode()).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE_ARN,
        "awsRegion": "us-east-1",
    }


def files():
    number = 0
    for name, messages in BATCHES.items():
        records = []
        for index, message in enumerate(messages()):
            records.append(record(name, index, number, message))
            number += 1
        yield EVENTS / f"{name}.json", json.dumps({"Records": records}, indent=2) + "\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit("usage: make_events.py [--check]")
    wanted = dict(files())
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    differing += [path for path in sorted(EVENTS.glob("*.json")) if path not in wanted]
    if arguments:
        sys.exit("".join(f"{path.name} is not what tools/make_events.py writes\n" for path in differing) or 0)
    EVENTS.mkdir(exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text)


main(sys.argv[1:])
