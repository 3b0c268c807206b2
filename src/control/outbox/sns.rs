//! Requests out: at most ten of them in, one publication to the topic out.

use async_trait::async_trait;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};

use super::{Outgoing, PublishError, RequestPublisher};
use crate::aws::failure::Failure;
use crate::worker::publish::TopicArn;

/// The type that every request names.
const REQUEST_TYPE: &str = "metric_run_requested";

/// SNS takes 256 KiB in one publication; what is beside the bodies stays below the rest.
const MAX_BODY_BYTES: usize = 250 * 1024;

/// Publishes to SNS.
#[derive(Debug, Clone)]
pub struct SnsRequests {
    client: aws_sdk_sns::Client,
    topic: TopicArn,
}

impl SnsRequests {
    /// Publishes to this topic.
    #[must_use]
    pub fn new(client: aws_sdk_sns::Client, topic: TopicArn) -> Self {
        Self { client, topic }
    }

    fn entry(&self, number: usize, request: &Outgoing) -> Result<PublishBatchRequestEntry, String> {
        if request.body.len() > MAX_BODY_BYTES {
            return Err(format!("{} bytes, at most {MAX_BODY_BYTES} are taken", request.body.len()));
        }
        let mut entry = PublishBatchRequestEntry::builder().id(number.to_string()).message(&request.body);
        for (name, value) in [("type", REQUEST_TYPE), ("metricCode", request.group_id.as_str())] {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            entry = entry.message_attributes(name, attribute.map_err(|error| error.to_string())?);
        }
        if self.topic.is_fifo() {
            entry = entry.message_group_id(&request.group_id).message_deduplication_id(&request.run_id);
        }
        entry.build().map_err(|error| error.to_string())
    }

    /// One publication: the answers of these requests, by their numbers.
    async fn publish_some(&self, some: Vec<PublishBatchRequestEntry>, answers: &mut [Result<(), PublishError>]) {
        let numbers: Vec<usize> = some.iter().filter_map(|entry| entry.id().parse().ok()).collect();
        let publication = self.client.publish_batch().topic_arn(self.topic.as_str());
        let answer = publication.set_publish_batch_request_entries(Some(some)).send().await;
        match answer {
            Ok(answer) => {
                for number in numbers {
                    answers[number] = Ok(());
                }
                for entry in answer.failed() {
                    let (code, message) = (entry.code(), entry.message().unwrap_or("no message"));
                    let failure = Failure::of_entry(code, message, entry.sender_fault());
                    if let Some(answer) = entry.id().parse().ok().and_then(|number: usize| answers.get_mut(number)) {
                        *answer = Err(match failure.transient {
                            true => PublishError::Transient(failure.reason),
                            false => PublishError::Refused(failure.reason),
                        });
                    }
                }
            }
            // What is wrong with a publication as a whole, a missing permission for instance, is no fault of its runs.
            Err(error) => {
                let failure = Failure::of(&error);
                for number in numbers {
                    answers[number] = Err(PublishError::Transient(failure.reason.clone()));
                }
            }
        }
    }
}

#[async_trait]
impl RequestPublisher for SnsRequests {
    async fn publish(&self, requests: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let unanswered = || Err(PublishError::Transient("no answer".to_owned()));
        let mut answers: Vec<Result<(), PublishError>> = requests.iter().map(|_| unanswered()).collect();
        let (mut some, mut size_bytes) = (Vec::new(), 0);
        for (number, request) in requests.iter().enumerate() {
            match self.entry(number, request) {
                Ok(entry) => {
                    if size_bytes + request.body.len() > MAX_BODY_BYTES {
                        self.publish_some(std::mem::take(&mut some), &mut answers).await;
                        size_bytes = 0;
                    }
                    size_bytes += request.body.len();
                    some.push(entry);
                }
                Err(reason) => answers[number] = Err(PublishError::Refused(reason)),
            }
        }
        if !some.is_empty() {
            self.publish_some(some, &mut answers).await;
        }
        answers
    }
}
