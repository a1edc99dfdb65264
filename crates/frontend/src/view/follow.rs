//! Keeps a [`View`] up to date from the controller's `watch` stream.
//!
//! Owns: subscribing again after a gap, an error or the stream's end. Invariant: a view never skips a version without
//! a snapshot between.

use std::time::Duration;

use futures::StreamExt as _;

use super::View;
use crate::session::Session;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Runs until its task is dropped.
pub(crate) async fn follow(view: View, session: Session) {
    let mut retry = session.backoff(RETRY_FIRST, RETRY_MAX);
    loop {
        let before = view.version();
        let ended = follow_once(&view, &session).await;
        if view.version() != before {
            retry.reset();
        }
        tracing::debug!(reason = ended, "metadata stream ended, subscribing again");
        retry.wait().await;
    }
}

/// Follows one subscription to its end, and answers why it ended.
async fn follow_once(view: &View, session: &Session) -> String {
    let mut updates = match session.controller().nodes.watch(session.caller()).await {
        Ok(updates) => updates,
        Err(error) => {
            session.judge(&error);
            return error.to_string();
        }
    };
    while let Some(update) = updates.next().await {
        let update = match update {
            Ok(update) => update,
            Err(error) => {
                session.judge(&error);
                return error.to_string();
            }
        };
        if let Err(gap) = view.apply(&update) {
            return gap.to_string();
        }
    }
    "the controller closed it".to_owned()
}
