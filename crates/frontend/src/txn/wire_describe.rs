//! DescribeTransactions and ListTransactions of the wire (KIP-664, KIP-994, KIP-1152).
//!
//! Owns: the filters of a list, and what is said of an id that isn't known.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::coordinator::Transactions;
use super::effects::Summary;
use super::state::{Phase, TopicPartition, Transaction};

/// The most that one pattern may take when it is compiled.
const PATTERN_BYTES: usize = 1 << 20;

pub(crate) async fn describe_transactions(
    transactions: &Transactions,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        let found = match id.as_str() {
            "" => Err(ErrorCode::InvalidRequest),
            id => transactions.describe(id).await,
        };
        transaction_states.push(described(id, found));
    }
    DescribeTransactionsResponse {
        transaction_states,
        ..Default::default()
    }
}

fn described(transactional_id: Str, found: Result<Transaction, ErrorCode>) -> DescribedTransaction {
    let state = match found {
        Ok(state) => state,
        Err(error_code) => {
            return DescribedTransaction {
                error_code,
                transactional_id,
                ..Default::default()
            };
        }
    };
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in state.partitions {
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(topic, partitions): (String, Vec<i32>)| DescribedTransactionTopic {
        topic: topic.into(),
        partitions,
    };
    DescribedTransaction {
        error_code: ErrorCode::None,
        transactional_id,
        transaction_state: Str::from_static(state.phase.name()),
        transaction_timeout_ms: state.timeout_ms,
        transaction_start_time_ms: state.start_ms,
        producer_id: state.producer_id,
        producer_epoch: state.epoch,
        topics: topics.into_iter().map(topic).collect(),
    }
}

pub(crate) async fn list_transactions(
    transactions: &Transactions,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let pattern = match pattern(request.transactional_id_pattern.as_deref()) {
        Ok(pattern) => pattern,
        Err(error_code) => {
            return ListTransactionsResponse {
                error_code,
                ..Default::default()
            };
        }
    };
    let found = match transactions.list().await {
        Ok(found) => found,
        Err(error_code) => {
            return ListTransactionsResponse {
                error_code,
                ..Default::default()
            };
        }
    };
    let is_known = |name: &Str| {
        Phase::ALL.iter().any(|phase| phase.name() == name.as_str()) || Phase::NEVER_SEEN.contains(&name.as_str())
    };
    let (known, unknown): (Vec<Str>, Vec<Str>) = request.state_filters.iter().cloned().partition(is_known);
    let now_ms = transactions.now_ms();
    let is_asked_for = |found: &Summary| {
        let (ids, longer_than_ms) = (&request.producer_id_filters, request.duration_filter);
        (request.state_filters.is_empty() || known.iter().any(|state| state.as_str() == found.state))
            && (ids.is_empty() || ids.contains(&found.producer_id))
            // As Kafka does, one that hasn't begun counts as one that began long ago.
            && (longer_than_ms < 0 || now_ms.saturating_sub(found.start_ms) > longer_than_ms)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&found.id))
    };
    let listed = |found: Summary| ListedTransaction {
        transactional_id: found.id.into(),
        producer_id: found.producer_id,
        transaction_state: Str::from_static(found.state),
    };
    ListTransactionsResponse {
        unknown_state_filters: unknown,
        transaction_states: found.into_iter().filter(is_asked_for).map(listed).collect(),
        ..Default::default()
    }
}

/// The pattern must match a whole id. RE2's syntax, as Kafka's.
///
/// # Errors
/// INVALID_REGULAR_EXPRESSION.
fn pattern(text: Option<&str>) -> Result<Option<Regex>, ErrorCode> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // On its own first: what isn't closed must not swallow what is put around it.
    let compile = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
    let whole = compile(text).and_then(|_| compile(&format!("^(?:{text})$")));
    whole.map(Some).map_err(|_| ErrorCode::InvalidRegularExpression)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns match whole ids; one that is none is refused, whatever is put around it.
    #[test]
    fn patterns_match_whole_ids() {
        let matches = |text: &str, id: &str| pattern(Some(text)).map(|found| found.unwrap().is_match(id));
        assert_eq!(matches("a|ab", "ab"), Ok(true));
        assert_eq!(matches("a", "ab"), Ok(false));
        assert_eq!(matches("a.*", "abc"), Ok(true));
        assert_eq!(matches(")(?:", "a"), Err(ErrorCode::InvalidRegularExpression));
        assert_eq!(pattern(Some("")).map(|found| found.is_none()), Ok(true));
    }
}
