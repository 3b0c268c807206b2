//! The worker as a Lambda function.
fn main() {}
