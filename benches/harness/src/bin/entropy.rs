//! How long the first random bytes of a process take, which every TLS handshake needs: by ring, and by AWS-LC, which
//! also collects entropy from the processor's jitter. One line of JSON.

use std::time::Instant;

fn main() {
    let by_ring = || {
        let mut bytes = [0; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("there is entropy");
    };
    let by_aws_lc = || aws_lc_rs::rand::fill(&mut [0; 32]).expect("there is entropy");
    println!("{}", serde_json::json!({ "ring_ms": first_ms(by_ring), "aws_lc_ms": first_ms(by_aws_lc) }));
}

fn first_ms(fill: impl Fn()) -> f64 {
    let started = Instant::now();
    fill();
    started.elapsed().as_secs_f64() * 1_000.0
}
