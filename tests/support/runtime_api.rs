//! The Lambda Runtime API on this machine: it starts the built function as a child process, hands it events as Lambda
//! does, and returns what it answered.
//!
//! The protocol is the one of `provided` runtimes: the function polls `invocation/next` and posts to
//! `invocation/{id}/response` or `invocation/{id}/error`. As in Lambda, a function that lets its deadline pass is
//! killed.

use std::collections::HashMap;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const FUNCTION_NAME: &str = "worker";
const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:worker";

/// What became of an event.
#[derive(Debug)]
pub enum Answer {
    /// The function's response.
    Response(Value),
    /// The function reported an error for this event.
    Error(Value),
    /// The process ended.
    Exited(ExitStatus),
    /// The deadline passed; the process was killed.
    TimedOut,
}

impl Answer {
    /// The response; anything else fails the test.
    pub fn response(self) -> Value {
        match self {
            Self::Response(response) => response,
            other => panic!("the function did not respond: {other:?}"),
        }
    }
}

/// The function as a running process, and the Runtime API it talks to.
pub struct Lambda {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Invocation>,
    process: Child,
    server: JoinHandle<()>,
    invocations: AtomicUsize,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    init_errors: Mutex<Vec<Value>>,
    output: Mutex<String>,
}

struct Invocation {
    id: String,
    deadline_ms: u128,
    event: Vec<u8>,
}

#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>>,
}

impl Lambda {
    /// Starts the program with this environment and what Lambda adds to it; nothing else is inherited.
    pub async fn start(program: &str, environment: &[(String, String)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (events, receiver) = mpsc::unbounded_channel();
        let api = Api { shared: Arc::clone(&shared), events: Arc::new(tokio::sync::Mutex::new(receiver)) };
        let server = tokio::spawn(async move { axum::serve(listener, routes(api)).await.unwrap() });
        let mut process = command(program, &address.to_string(), environment).spawn().unwrap();
        capture(process.stdout.take().unwrap(), Arc::clone(&shared));
        capture(process.stderr.take().unwrap(), Arc::clone(&shared));
        Self { shared, events, process, server, invocations: AtomicUsize::new(0) }
    }

    /// Hands the function an event and waits for what becomes of it, as long as a function with this timeout has.
    pub async fn invoke(&mut self, event: &Value, timeout: Duration) -> Answer {
        let id = format!("00000000-0000-4000-8000-{:012}", self.invocations.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.shared.waiting.lock().unwrap().insert(id.clone(), sender);
        let deadline_ms = milliseconds_now() + timeout.as_millis();
        self.events.send(Invocation { id, deadline_ms, event: serde_json::to_vec(event).unwrap() }).unwrap();
        tokio::select! {
            biased;
            answer = answer => answer.unwrap(),
            status = self.process.wait() => Answer::Exited(status.unwrap()),
            () = tokio::time::sleep(timeout) => {
                self.kill().await;
                Answer::TimedOut
            }
        }
    }

    /// Waits for the process to end by itself.
    pub async fn exit(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let status = tokio::time::timeout(timeout, self.process.wait()).await.ok()?.unwrap();
        // What it wrote last is still on its way.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Some(status)
    }

    /// Ends the process at once.
    pub async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Asks the process to end, as Lambda does before it removes an environment.
    pub async fn terminate(&self) {
        let process_id = self.process.id().expect("the process has ended").to_string();
        let status = Command::new("kill").args(["-TERM", &process_id]).status().await.unwrap();
        assert!(status.success());
    }

    /// Everything it wrote to its standard output and standard error so far.
    pub fn output(&self) -> String {
        self.shared.output.lock().unwrap().clone()
    }

    /// The errors it reported before it took an event.
    pub fn init_errors(&self) -> Vec<Value> {
        self.shared.init_errors.lock().unwrap().clone()
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.server.abort();
        if std::thread::panicking() {
            eprintln!("the function's output:\n{}", self.output());
        }
    }
}

fn command(program: &str, api: &str, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    let lambda = [
        ("AWS_LAMBDA_RUNTIME_API", api),
        ("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/worker"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "local"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("_HANDLER", "bootstrap"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("TZ", ":UTC"),
    ];
    command.envs(lambda);
    // Coverage counts what the child runs only where it is told the file.
    command.envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn capture(stream: impl AsyncRead + Send + Unpin + 'static, shared: Arc<Shared>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut output = shared.output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "Lambda's deadlines are on the wall clock")]
fn milliseconds_now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

fn routes(api: Api) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .layer(DefaultBodyLimit::disable())
        .with_state(api)
}

async fn next(State(api): State<Api>) -> Result<(HeaderMap, Vec<u8>), StatusCode> {
    let Some(invocation) = api.events.lock().await.recv().await else { return Err(StatusCode::GONE) };
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", invocation.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", FUNCTION_ARN.to_owned()),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0".to_owned()),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap()));
    Ok((headers.into_iter().collect(), invocation.event))
}

async fn response(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    answer(&api, &id, Answer::Response(read(&body)))
}

async fn error(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    answer(&api, &id, Answer::Error(read(&body)))
}

async fn init_error(State(api): State<Api>, body: Bytes) -> StatusCode {
    api.shared.init_errors.lock().unwrap().push(read(&body));
    StatusCode::ACCEPTED
}

fn answer(api: &Api, id: &str, answer: Answer) -> StatusCode {
    let Some(waiting) = api.shared.waiting.lock().unwrap().remove(id) else { return StatusCode::BAD_REQUEST };
    // Nobody waits any more where the deadline has passed.
    _ = waiting.send(answer);
    StatusCode::ACCEPTED
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}
