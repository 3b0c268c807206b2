//! How long a function takes from exec to its first poll: starts each of the given programs in turn against a Runtime
//! API that never has an event, and prints the milliseconds of every start as JSON.
//!
//! usage: cold_start ROUNDS PROGRAM…

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).expect("usage: cold_start ROUNDS PROGRAM…");
    let programs: Vec<String> = arguments.collect();
    let mut starts: Vec<Vec<f64>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (program, starts) in programs.iter().zip(&mut starts) {
            starts.push(start(program).as_secs_f64() * 1_000.0);
        }
    }
    println!("{}", serde_json::json!(programs.iter().zip(starts).collect::<Vec<_>>()));
}

fn start(program: &str) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let started = Instant::now();
    let mut child = Command::new(program)
        .env("AWS_LAMBDA_RUNTIME_API", &address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let took = loop {
        let (stream, _) = listener.accept().expect("a connection");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok();
        // Connections that are made ahead ask for nothing.
        if line.contains("/invocation/next") {
            break started.elapsed();
        }
    };
    child.kill().ok();
    child.wait().ok();
    took
}
