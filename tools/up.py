"""The whole engine on this machine: a private Postgres, a local S3, SNS and SQS, the worker and the control plane.

    up.py [--port N] [--folder DIR] [--days N] [--no-build]   starts everything, registers the sample dataset and its metrics, and
                                                   runs until Ctrl-C
    up.py --folder DIR change                      adds a day to the running engine's dataset: a new version of it

Everything listens on 127.0.0.1 and is gone afterwards, but for the logs and the key in DIR (target/up). A worker that
ends is started again.
"""

import argparse
import contextlib
import csv
import ctypes
import datetime
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV_BIN = pathlib.Path(sys.executable).parent
REGION = "us-east-1"
ACCOUNT = "000000000000"
BUCKET = "metrics-engine-local"
DATASET = "ecb_fx"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
CURRENCIES = ("USD", "JPY", "GBP", "CHF")
START_SECONDS = 120
FIRST_VERSIONS_SECONDS = 300
# A worker that was killed leaves its messages invisible for so long.
VISIBILITY_SECONDS = "15"
# Name of the queue, name of its variables, type of its events.
INBOUND = (
    ("metrics-engine-cp-projection-updates-consumer.fifo", "PROJECTION_UPDATE", "projection_update"),
    ("metric-run-started-consumer.fifo", "METRIC_RUN_STARTED", "metric_run_started"),
    ("metric-run-heartbeat-consumer.fifo", "METRIC_RUN_HEARTBEAT", "metric_run_heartbeat"),
    ("metric-run-completed-consumer.fifo", "METRIC_RUN_COMPLETED", "metric_run_completed"),
)


def series(currency: str) -> dict:
    return {"series_code": f"ECB_EUR_{currency}_D"}


def metrics() -> dict[str, tuple[str, dict, str, str]]:
    """Kind, expression, unit and meaning of each metric."""
    def ratio(left: dict, right: dict) -> dict:
        return {"op": "ratio", "left": left, "right": right}

    month_ago = {"op": "lag", "series": series("USD"), "window": 30}
    return {
        "fx.usd_jpy": ("series_math", ratio(series("JPY"), series("USD")), "JPY for a USD", "Cross rate of dollar and yen"),
        "fx.gbp_usd": ("series_math", ratio(series("USD"), series("GBP")), "USD for a GBP", "Cross rate of sterling and dollar"),
        "fx.eur_usd_90d": ("window_op", {"op": "sma", "series": series("USD"), "window": 90}, "USD for a EUR", "Mean of 90 observations"),
        "fx.eur_usd_change_30d": ("series_math", ratio({"op": "subtract", "left": series("USD"), "right": month_ago}, month_ago), "1", "Change over 30 days"),
        "fx.eur_macd": ("series_math", {
            "op": "subtract",
            "left": {"op": "ema", "series": series("USD"), "window": 12},
            "right": {"op": "ema", "series": series("USD"), "window": 26}}, "USD for a EUR", "Short mean over long mean"),
        "fx.basket": ("composite", {"op": "avg", "operands": [series("USD"), series("GBP"), series("CHF")]}, "1", "Mean of three rates"),
    }


def die_with_parent() -> None:
    """The kernel ends the process when this one is killed, where no handler runs."""
    pr_set_pdeathsig = 1
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@contextlib.contextmanager
def running(name: str, command: list, environment: dict, folder: pathlib.Path, **options):
    """A process of its own session, ended with this one."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stderr=log, cwd=folder, start_new_session=True,
            preexec_fn=die_with_parent, **{"stdout": log, **options})
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    if process.stdin:
        process.stdin.close()
    else:
        process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, process: subprocess.Popen, name: str, folder: pathlib.Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            log = (folder / f"{name}.log").read_text(errors="replace")
            sys.exit(f"{name} did not start:\n{log[-4000:]}")
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


class Local:
    """The local S3, SNS and SQS: what is in them, by name."""

    def __init__(self, endpoint: str):
        session = boto3.Session("local", "local", region_name=REGION)
        settings = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 4}, max_pool_connections=32)
        self.endpoint = endpoint
        self.s3, self.sns, self.sqs = (session.client(name, endpoint_url=endpoint, config=settings) for name in ("s3", "sns", "sqs"))

    def queue(self, name: str, **attributes) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true", **attributes})["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def guarded_queue(self, name: str) -> tuple[str, str, str]:
        """A queue with its dead-letter queue: both URLs and the queue's ARN."""
        dead_url, dead_arn = self.queue(name.replace(".fifo", "-dlq.fifo"))
        redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": "5"})
        url, arn = self.queue(name, RedrivePolicy=redrive, VisibilityTimeout=VISIBILITY_SECONDS)
        return url, dead_url, arn

    def topic(self, name: str, *queue_arns: str) -> str:
        arn = self.sns.create_topic(Name=name, Attributes={"FifoTopic": "true"})["TopicArn"]
        for queue_arn in queue_arns:
            self.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
        return arn

    def prepare(self) -> tuple[dict, dict]:
        """Bucket, queues and topics; the worker's environment and the control plane's."""
        self.s3.create_bucket(Bucket=BUCKET)
        common = {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint, "MAX_RECEIVE_COUNT": "5", "LOG_LEVEL": os.environ.get("LOG_LEVEL", "info")}
        requests_url, requests_dead, requests_arn = self.guarded_queue("metric-run-requests.fifo")
        worker = {
            **common, "AWS_S3_BUCKET": BUCKET, "AWS_SQS_RUN_REQUEST_QUEUE_URL": requests_url, "DEAD_LETTER_QUEUE_URL": requests_dead,
            "WORKER_HEARTBEAT_INTERVAL_SECONDS": "1", "PROMETHEUS_PORT": "0"}
        control = {**common, "S3_BUCKET": BUCKET, "SNS_TOPIC_ARN": self.topic("metric-run-requested.fifo", requests_arn)}
        for name, variable, event in INBOUND:
            url, dead_url, arn = self.guarded_queue(name)
            control[f"SQS_{variable}_QUEUE_URL"] = url
            control[f"SQS_{variable}_DEAD_LETTER_QUEUE_URL"] = dead_url
            topic = self.topic(f"{event.replace('_', '-')}.fifo", arn)
            if event != "projection_update":
                worker[f"AWS_SNS_{variable}_TOPIC_ARN"] = topic
        return worker, control


def build_dataset(folder: pathlib.Path, binaries: pathlib.Path) -> str:
    """Makes the dataset's files out of the CSV; the version's manifest."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    command = [binaries / "metrics", "dataset", "build", "--columns", "rates", "--dataset-id", DATASET, "--csv", folder / "rates.csv", "--into", folder / "bucket", "--created-at", now]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    versions = folder / "bucket" / "datasets" / DATASET / "versions"
    return f"datasets/{DATASET}/versions/{max(path.name for path in versions.iterdir())}/manifest.json"


def publish(local: Local, folder: pathlib.Path, binaries: pathlib.Path, since: float) -> str:
    """A new version of the dataset: its files, and the event that says so, as whoever makes datasets publishes them."""
    manifest = build_dataset(folder, binaries)
    bucket = folder / "bucket"
    files = [file for file in bucket.glob("[!.]*/**/*") if file.is_file() and file.stat().st_mtime >= since]
    # The manifest comes last: whoever finds it finds what it lists.
    for file in sorted(files, key=lambda file: file.name == "manifest.json"):
        local.s3.put_object(Bucket=BUCKET, Key=file.relative_to(bucket).as_posix(), Body=file.read_bytes())
    event = {
        "event": "projection_update", "dataset_id": DATASET, "bucket": BUCKET, "version_manifest_path": manifest,
        "projections_path": f"datasets/{DATASET}/projections/"}
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:projection-update.fifo"
    local.sns.publish(TopicArn=topic, Message=json.dumps(event), MessageGroupId=DATASET, MessageDeduplicationId=secrets.token_hex(16))
    print(f"published {manifest}: {len(files)} objects", flush=True)
    return manifest


def first_rates(folder: pathlib.Path, days: int) -> None:
    """The newest days of the sample, in a few currencies."""
    with (ROOT / "sample-data" / "eurofxref-hist.csv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))[:days]
    write_rates(folder, [{name: row[name] for name in ("Date", *CURRENCIES)} for row in rows])


def write_rates(folder: pathlib.Path, rows: list[dict]) -> None:
    with (folder / "rates.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("Date", *CURRENCIES))
        writer.writeheader()
        writer.writerows(rows)


def add_a_day(folder: pathlib.Path) -> None:
    with (folder / "rates.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    newest = rows[0]
    day = datetime.date.fromisoformat(newest["Date"]) + datetime.timedelta(days=1)
    moved = {name: f"{float(newest[name]) * random.uniform(0.98, 1.02):.4f}" for name in CURRENCIES if newest[name] not in ("", "N/A")}
    write_rates(folder, [{"Date": day.isoformat(), **{name: moved.get(name, "N/A") for name in CURRENCIES}}, *rows])


def call(url: str, key: str | None = None, method: str = "GET", body: dict | None = None) -> dict:
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.read().decode(errors='replace')}")


def register(url: str, key: str) -> None:
    for currency in CURRENCIES:
        spec = {"name": f"{currency} for a EUR", "unit": currency, "frequency": "daily"}
        call(f"{url}/series/ECB_EUR_{currency}_D", key, "PUT", spec)
    spec = {"name": "Reference rates of the European Central Bank", "bucket": BUCKET, "series": [f"ECB_EUR_{currency}_D" for currency in CURRENCIES]}
    call(f"{url}/datasets/{DATASET}", key, "PUT", spec)
    for code, (kind, expression, unit, meaning) in metrics().items():
        spec = {"expression_type": kind, "expression_json": expression, "unit": unit, "description": meaning, "frequency": "daily"}
        call(f"{url}/metrics/{code}", key, "PUT", spec)


def wait_for_versions(url: str) -> None:
    deadline = time.monotonic() + FIRST_VERSIONS_SECONDS
    while any(metric["latest_version"] is None for metric in call(f"{url}/metrics")["items"]):
        if time.monotonic() > deadline:
            sys.exit(f"no version of every metric after {FIRST_VERSIONS_SECONDS} s; the logs say why")
        time.sleep(0.2)


def change(folder: pathlib.Path) -> None:
    state_file = folder / "state.json"
    if not state_file.exists():
        sys.exit("the engine does not run here: make up starts it")
    state = json.loads(state_file.read_text(encoding="utf-8"))
    since = time.time() - 1
    add_a_day(folder)
    publish(Local(state["aws"]), folder, pathlib.Path(state["binaries"]), since)


def up(arguments: argparse.Namespace, folder: pathlib.Path) -> None:
    binaries = pathlib.Path(arguments.binaries) if arguments.binaries else ROOT / "target" / "debug"
    if not arguments.no_build:
        subprocess.run(["cargo", "build", "--bin", "worker", "--bin", "control", "--bin", "metrics"], cwd=ROOT, check=True)
    for old in folder.glob("*.log"):
        old.unlink()
    shutil.rmtree(folder / "bucket", ignore_errors=True)
    key_file = folder / "api-key"
    key = secrets.token_urlsafe(24)
    key_file.touch(mode=0o600)
    key_file.write_text(key, encoding="utf-8")
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="up-")))
        aws_port = free_port()
        endpoint = f"http://127.0.0.1:{aws_port}"
        local_aws = {
            **os.environ, "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(aws_port), "IOT_MTLS_ENABLED": "0",
            "STATE_DIR": str(scratch / "state"), "S3_DATA_DIR": str(scratch / "s3"), "TMPDIR": str(scratch), "SERVICES": "s3,sns,sqs"}
        aws = stack.enter_context(running("aws", [VENV_BIN / "ministack"], local_aws, folder))
        database = stack.enter_context(running(
            "postgres", [sys.executable, ROOT / "tools" / "postgres.py"], dict(os.environ), folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        database_port = database.stdout.readline().decode().strip().rpartition(":")[2].partition("/")[0]
        if not database_port:
            sys.exit(f"no database:\n{(folder / 'postgres.log').read_text(errors='replace')}")
        wait_until(lambda: answers(f"{endpoint}/_ministack/health"), aws, "aws", folder)
        local = Local(endpoint)
        worker, control = local.prepare()
        port = arguments.port or free_port()
        control |= {
            "DB_HOST": "127.0.0.1", "DB_PORT": database_port, "DB_NAME": "postgres", "DB_USER": "postgres", "DB_TLS": "disable",
            "PORT": str(port), "API_KEY": key}
        subprocess.run([str(binaries / "control"), "migrate", "up"], env=control, cwd=folder, check=True)
        api = stack.enter_context(running("control", [binaries / "control", "--serve"], control, folder))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), api, "control", folder)
        workers = stack.enter_context(contextlib.ExitStack())
        one = workers.enter_context(running("worker", [binaries / "worker", "--poll"], worker, folder))

        register(url, key)
        first_rates(folder, arguments.days)
        publish(local, folder, binaries, 0)
        state_file = folder / "state.json"
        stack.callback(lambda: state_file.unlink(missing_ok=True))

        def tell() -> None:
            state = {"url": url, "aws": endpoint, "binaries": str(binaries), "worker": one.pid, "control": api.pid, "bucket": BUCKET}
            written = state_file.with_suffix(".new")
            written.write_text(json.dumps(state), encoding="utf-8")
            written.replace(state_file)

        tell()
        wait_for_versions(url)
        print(f"""
every metric has its first version

  status      {url}/
  values      {url}/api/v1/metrics/fx.usd_jpy?from=2024-01-01
  API         {url}/docs
  key         {key_file}
  logs        {folder}
  new version make change
  stop        Ctrl-C
""", flush=True)
        while True:
            time.sleep(0.2)
            for name, process in (("aws", aws), ("postgres", database), ("control", api)):
                if process.poll() is not None:
                    sys.exit(f"{name} ended: see {folder / f'{name}.log'}")
            if one.poll() is not None:
                print("the worker ended, and is started again", flush=True)
                one = workers.enter_context(running("worker", [binaries / "worker", "--poll"], worker, folder))
                tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=str(ROOT / "target" / "up"), help="logs, key and dataset")
    parser.add_argument("--port", type=int, default=3000, help="of the API and the status page; 0 for a free one")
    parser.add_argument("--days", type=int, default=2500, help="newest days of the sample that the first version has")
    parser.add_argument("--binaries", help="where the programs are; target/debug")
    parser.add_argument("--no-build", action="store_true", help="take the programs as they are")
    parser.add_argument("command", nargs="?", choices=["change"])
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.command == "change":
        change(folder)
        return
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: sys.exit(0))
    up(arguments, folder)


if __name__ == "__main__":
    main()
