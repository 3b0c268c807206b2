"""Sends events to the worker on this machine, against a local S3, SNS and SQS.

    invoke.py BUCKET_FOLDER EVENT.json…

Starts MiniStack and `cargo lambda watch` on free ports of 127.0.0.1, uploads BUCKET_FOLDER (laid out as the
bucket is), invokes the worker with one event after the other, and prints its answer to each, the events it published, what it
sent to the dead-letter queue and the keys it wrote. Then everything stops. Exit status 1 where the worker did not
answer.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV_BIN = pathlib.Path(sys.executable).parent
REGION = "us-east-1"
BUCKET = "metrics-engine-local"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
START_SECONDS = 60
# A first answer may wait for cargo to look over the build.
ANSWER_SECONDS = 180
TOPICS = ("started", "heartbeat", "completed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], environment: dict, log: pathlib.Path):
    """A process of its own group, stopped with its children at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
                break
        # Children that outlived their parent.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition, process: subprocess.Popen, what: str, log: pathlib.Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{what} ended at its start:\n{log.read_text(errors='replace')}")
        if condition():
            return
        time.sleep(0.1)
    sys.exit(f"{what} did not start within {START_SECONDS} s:\n{log.read_text(errors='replace')}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def fifo_queue(sqs, name: str, **attributes) -> tuple[str, str]:
    url = sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true", **attributes})["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def queue_name(event: dict) -> str:
    """The queue that the event says it came from: its visibility changes go there."""
    arns = [record.get("eventSourceARN", "") for record in event.get("Records", [])]
    return next((arn.rsplit(":", 1)[-1] for arn in arns if arn.endswith(".fifo")), "metric-run-requests.fifo")


def prepare(clients: dict, event: dict, folder: pathlib.Path) -> dict:
    """Makes bucket, topics and queues, uploads the folder, and returns the worker's environment."""
    s3, sns, sqs = clients["s3"], clients["sns"], clients["sqs"]
    s3.create_bucket(Bucket=BUCKET)
    # A hidden folder at the root is the folder storage's own and no part of the bucket.
    files = sorted(file for file in folder.glob("[!.]*/**/*") if file.is_file())
    for file in files:
        s3.put_object(Bucket=BUCKET, Key=file.relative_to(folder).as_posix(), Body=file.read_bytes())
    print(f"bucket {BUCKET}: {len(files)} objects from {folder}")

    dead_url, dead_arn = fifo_queue(sqs, "dead-letters.fifo")
    redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": "5"})
    requests_url, _ = fifo_queue(sqs, queue_name(event), RedrivePolicy=redrive, VisibilityTimeout="60")
    events_url, events_arn = fifo_queue(sqs, "events.fifo")
    environment = {
        "AWS_S3_BUCKET": BUCKET,
        "AWS_SQS_RUN_REQUEST_QUEUE_URL": requests_url,
        "DEAD_LETTER_QUEUE_URL": dead_url,
        "MAX_RECEIVE_COUNT": "5",
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "info"),
    }
    for topic in TOPICS:
        arn = sns.create_topic(Name=f"run-{topic}.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=events_arn, Attributes={"RawMessageDelivery": "true"})
        environment[f"AWS_SNS_METRIC_RUN_{topic.upper()}_TOPIC_ARN"] = arn
    return {"environment": environment, "events": events_url, "dead": dead_url}


def drain(sqs, url: str) -> list[dict]:
    messages = []
    while batch := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"], MessageAttributeNames=["All"]
    ).get("Messages"):
        for message in batch:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        messages += batch
    return messages


def keys(s3) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def invoke(event: pathlib.Path, port: int, environment: dict, log: pathlib.Path) -> tuple[bool, str]:
    """The worker's answer. The local Lambda never answers for a worker that ended, but its log says that it did."""
    command = [str(VENV_BIN / "cargo-lambda"), "lambda", "invoke", "-A", "127.0.0.1", "-P", str(port), "worker", "--data-file", str(event)]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + ANSWER_SECONDS
    while process.poll() is None:
        ended = "command exited" in log.read_text(errors="replace")
        if ended or time.monotonic() > deadline:
            process.kill()
            process.wait()
            return False, "none: the worker ended" if ended else f"none within {ANSWER_SECONDS} s"
        time.sleep(0.1)
    return process.returncode == 0, process.stdout.read().strip()


def report(clients: dict, local: dict, before: dict[str, int]) -> None:
    events = drain(clients["sqs"], local["events"])
    print(f"\nevents ({len(events)}):")
    for message in events:
        print(f"  {message['Body']}")
    dead = drain(clients["sqs"], local["dead"])
    print(f"\ndead letters ({len(dead)}):")
    for message in dead:
        attributes = {name: value.get("StringValue") for name, value in message.get("MessageAttributes", {}).items()}
        print(f"  {json.dumps(attributes)} {message['Body']}")
    written = {key: size for key, size in keys(clients["s3"]).items() if before.get(key) != size}
    print(f"\nkeys written ({len(written)}):")
    for key, size in written.items():
        print(f"  {key}  {size} bytes")


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder, *event_files = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    first_event = json.loads(event_files[0].read_text(encoding="utf-8"))
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: build the sample dataset first")

    # The watcher would build too, but without a word to the screen and while the invocation waits.
    subprocess.run(["cargo", "build", "--bin", "worker"], cwd=ROOT, check=True)

    with tempfile.TemporaryDirectory(prefix="invoke-") as scratch_name, contextlib.ExitStack() as stack:
        scratch = pathlib.Path(scratch_name)
        aws_port, lambda_port = free_port(), free_port()
        endpoint = f"http://127.0.0.1:{aws_port}"
        base = {**os.environ, **CREDENTIALS, "PATH": f"{VENV_BIN}{os.pathsep}{os.environ['PATH']}"}

        aws_log = scratch / "aws.log"
        local_aws = {
            **base, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(aws_port), "IOT_MTLS_ENABLED": "0",
            "STATE_DIR": str(scratch / "state"), "S3_DATA_DIR": str(scratch / "s3"), "TMPDIR": scratch_name, "SERVICES": "s3,sns,sqs",
        }
        process = stack.enter_context(running([str(VENV_BIN / "ministack")], local_aws, aws_log))
        wait_until(lambda: answers(f"{endpoint}/_ministack/health"), process, "the local S3, SNS and SQS", aws_log)
        session = boto3.Session("local", "local", region_name=REGION)
        settings = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2})
        clients = {name: session.client(name, endpoint_url=endpoint, config=settings) for name in ("s3", "sns", "sqs")}
        local = prepare(clients, first_event, folder)

        environment_file = scratch / "worker.env"
        worker = {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, **local["environment"]}
        environment_file.write_text("".join(f"{name}={value}\n" for name, value in worker.items()), encoding="utf-8")
        lambda_log = scratch / "lambda.log"
        watch = [
            str(VENV_BIN / "cargo-lambda"), "lambda", "watch", "-A", "127.0.0.1", "-P", str(lambda_port),
            "--ignore-changes", "--env-file", str(environment_file),
        ]
        process = stack.enter_context(running(watch, base, lambda_log))
        wait_until(lambda: accepts(lambda_port), process, "the local Lambda", lambda_log)

        for event_file in event_files:
            before, logged = keys(clients["s3"]), lambda_log.stat().st_size
            answered, answer = invoke(event_file, lambda_port, base, lambda_log)
            print(f"\n{event_file.name}\n\nworker's log:")
            log = lambda_log.read_bytes()[logged:].decode(errors="replace")
            print("\n".join(f"  {line}" for line in log.splitlines()))
            print(f"\nanswer:\n  {answer}")
            report(clients, local, before)
            if not answered:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
