//! Runs a test in a process of its own and holds its memory against a bound.
//!
//! An abort, an overflow of the stack or a kill for want of memory ends that process, not the tests. Memory is
//! resident memory at its peak, as the kernel keeps it; before each case the kernel is asked to forget the last peak.

use std::process::Command;
use std::time::{Duration, Instant};

/// A function of a quarter of a gigabyte is a small one.
const MEMORY_LIMIT_KB: u64 = 256 << 10;

/// No case takes a second on an idle machine; a loaded one with a debug build may be sixty times slower.
const TIME_LIMIT: Duration = Duration::from_secs(60);

const MEASURED: &str = "HOSTILE_MEASURED";

/// Runs the body in a process of its own that this test's name leads to.
pub(crate) fn in_a_process_of_its_own(test_name: &str, body: impl FnOnce()) {
    if std::env::var_os(MEASURED).is_some() {
        return body();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test_name, "--nocapture", "--test-threads=1"]).env(MEASURED, "1");
    // Each case has a runtime of its own, and its threads would keep what they freed in heaps of their own: the peaks of
    // one case would count for the next. The worker has one runtime.
    child.env("MALLOC_ARENA_MAX", "1");
    let output = child.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{}:\n{text}", output.status);
    assert!(text.contains("1 passed"), "the process ran another test:\n{text}");
}

/// Runs a case within its bounds of time and memory.
pub(crate) async fn bounded<T>(name: &str, case: impl Future<Output = T>) -> T {
    // Writing 5 resets the peak; where it cannot be reset, the peak of all cases so far is held against the bound.
    _ = std::fs::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    let result = case.await;
    let (took, peak_kb) = (start.elapsed(), peak_kb());
    println!("{name}: {} ms, {} MB", took.as_millis(), peak_kb >> 10);
    assert!(took < TIME_LIMIT, "{name}: took {took:?}");
    assert!(peak_kb < MEMORY_LIMIT_KB, "{name}: {peak_kb} KB at its peak");
    result
}

fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
