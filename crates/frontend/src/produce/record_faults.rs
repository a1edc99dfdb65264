//! Records that a topic's settings don't allow, each by its place in its batch (KIP-467).

use std::ops::RangeInclusive;

use tailwater_kafka::messages::BatchIndexAndErrorMessage;

/// Faults that are told one by one: a batch may have a million.
const MAX_TOLD: usize = 1000;
/// Faults that are named in the text about all of them, as in Kafka.
const NAMED: usize = 3;

/// All faults of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFaults {
    count: usize,
    /// The first of them.
    told: Vec<(i32, Fault)>,
    /// Whether any is about a timestamp: Kafka's code is then another one.
    pub about_time: bool,
}

/// What is wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    NoKey,
    Timestamp {
        timestamp_ms: i64,
        allowed_ms: RangeInclusive<i64>,
    },
}

impl RecordFaults {
    pub fn push(&mut self, index: i32, fault: Fault) {
        self.count += 1;
        self.about_time |= matches!(fault, Fault::Timestamp { .. });
        if self.told.len() < MAX_TOLD {
            self.told.push((index, fault));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// As the answer lists them; `partition` is the topic's name and the index, with `-` between.
    pub fn errors(&self, partition: &str) -> Vec<BatchIndexAndErrorMessage> {
        let error = |(index, fault): &(i32, Fault)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(fault.message(*index, partition).into()),
        };
        self.told.iter().map(error).collect()
    }

    /// What Kafka says about all of them together.
    pub fn summary(&self, partition: &str) -> String {
        if self.about_time {
            return "One or more records have been rejected due to invalid timestamp".to_owned();
        }
        let named = self.told.iter().take(NAMED).map(|(index, fault)| {
            let message = fault.message(*index, partition);
            format!("RecordError(batchIndex={index}, message='{message}')")
        });
        format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first three \
             errors at most: [{}]",
            self.count,
            named.collect::<Vec<_>>().join(", ")
        )
    }
}

impl Fault {
    fn message(&self, index: i32, partition: &str) -> String {
        match self {
            Self::NoKey => format!("Compacted topic cannot accept message without key in topic partition {partition}"),
            Self::Timestamp {
                timestamp_ms,
                allowed_ms,
            } => format!(
                "Timestamp {timestamp_ms} of message with offset {index} is out of range. The timestamp should be within \
                 [{}, {}]",
                allowed_ms.start(),
                allowed_ms.end()
            ),
        }
    }
}
