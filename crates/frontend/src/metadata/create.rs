//! Making topics and changing them through the controller's catalog, and waiting until this node sees what was done.
//!
//! Owns: what races mean: a topic that somebody else makes at the same time is as good as one's own.

use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::controller::{AlterConfigs, CreatePartitions, CreatedTopic, DeleteRecords, NewTopic};
use tailwater_rpc::{Error, Result};
use tailwater_types::{Kind, Outcome};

use crate::session::Session;
use crate::view::{Topic, View};

/// How long an answer waits for this node's metadata to show what the controller has done: clients look there next.
const VIEW_WAIT: Duration = Duration::from_secs(2);

/// How long a change that a client asks for waits for a controller that is away. Its handler gives up at the request's own time,
/// if that is less.
const RETRY_FOR: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct TopicCreator {
    session: Session,
    view: View,
}

impl TopicCreator {
    pub fn new(session: Session, view: View) -> Self {
        Self { session, view }
    }

    /// Makes a topic. When this answers, the node's metadata shows it, unless that is late.
    ///
    /// # Errors
    /// The controller's.
    pub async fn create(&self, topic: NewTopic) -> Result<CreatedTopic> {
        let created = self.attempt(|| self.ask_for(&topic)).await;
        self.made(&topic, created).await
    }

    async fn ask_for(&self, topic: &NewTopic) -> Result<CreatedTopic> {
        let catalog = &self.session.controller().catalog;
        catalog.create_topic(self.session.caller(), topic.clone()).await
    }

    async fn made(&self, topic: &NewTopic, created: Result<CreatedTopic>) -> Result<CreatedTopic> {
        let created = created.inspect_err(|error| self.session.judge(error))?;
        if !topic.validate_only {
            let (name, partitions) = (&topic.name, topic.partitions);
            tracing::info!(topic = name, id = %created.id, partitions, "topic created");
            self.see(self.view.wait_for(created.version)).await;
        }
        Ok(created)
    }

    /// The topic of that name, made if there is none, by whomever. Asks once only: this is a part of requests about other
    /// topics too, and clients repeat them.
    ///
    /// # Errors
    /// The controller's, or [`Error::Unavailable`] if this node's metadata doesn't show the topic in time.
    pub async fn ensure(&self, topic: NewTopic) -> Result<Arc<Topic>> {
        let name = topic.name.clone();
        if let Some(found) = self.view.snapshot().topic_named(&name) {
            return Ok(found.clone());
        }
        let created = self.ask_for(&topic).await;
        match self.made(&topic, created).await {
            Ok(_) | Err(Error::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
        let mut versions = self.view.subscribe();
        let seen = versions.wait_for(|_| self.view.snapshot().topic_named(&name).is_some());
        self.see(seen).await;
        self.view
            .snapshot()
            .topic_named(&name)
            .cloned()
            .ok_or_else(|| Error::Unavailable {
                detail: format!("topic {name} isn't visible here yet"),
                outcome: Outcome::Unknown,
            })
    }

    /// Deletes a topic. When this answers, the node's metadata doesn't show it any more, unless that is late.
    ///
    /// # Errors
    /// The controller's.
    pub async fn delete(&self, topic: tailwater_types::TopicId) -> Result<()> {
        let name = self.view.snapshot().topic(topic).map(|topic| topic.name.to_string());
        let catalog = &self.session.controller().catalog;
        let deleted = self
            .attempt(|| catalog.delete_topic(self.session.caller(), topic))
            .await;
        let version = deleted.inspect_err(|error| self.session.judge(error))?;
        tracing::info!(topic = name, id = %topic, "topic deleted");
        self.see(self.view.wait_for(version)).await;
        Ok(())
    }

    /// Changes settings, or checks whether they could be.
    ///
    /// # Errors
    /// The controller's.
    pub async fn alter_configs(&self, request: AlterConfigs) -> Result<()> {
        let (is_check, resource) = (request.validate_only, request.resource.clone());
        let catalog = &self.session.controller().catalog;
        let altered = self
            .attempt(|| catalog.alter_configs(self.session.caller(), request.clone()))
            .await;
        let version = altered.inspect_err(|error| self.session.judge(error))?;
        if !is_check {
            tracing::info!(?resource, "settings changed");
            self.see(self.view.wait_for(version)).await;
        }
        Ok(())
    }

    /// Gives a topic more partitions, or checks whether it could have them.
    ///
    /// # Errors
    /// The controller's.
    pub async fn create_partitions(&self, request: CreatePartitions) -> Result<()> {
        let catalog = &self.session.controller().catalog;
        let created = self
            .attempt(|| catalog.create_partitions(self.session.caller(), request))
            .await;
        let version = created.inspect_err(|error| self.session.judge(error))?;
        if !request.validate_only {
            tracing::info!(topic = %request.topic, total = request.total, "partitions created");
            self.see(self.view.wait_for(version)).await;
        }
        Ok(())
    }

    /// Moves the start of a stream that this node leads.
    ///
    /// # Errors
    /// The controller's.
    pub async fn delete_records(&self, request: DeleteRecords) -> Result<()> {
        let catalog = &self.session.controller().catalog;
        let deleted = self
            .attempt(|| catalog.delete_records(self.session.caller(), request))
            .await;
        let version = deleted.inspect_err(|error| self.session.judge(error))?;
        self.see(self.view.wait_for(version)).await;
        Ok(())
    }

    /// Makes a call again while it is certain that it didn't happen since the controller can't be reached, for [`RETRY_FOR`]:
    /// one that starts anew is back by then. A call whose outcome is unknown isn't repeated: it has no identity by which the
    /// controller would know it again, and its repeat would be answered "exists already", or undo what somebody else did.
    async fn attempt<T, F: Future<Output = Result<T>>>(&self, mut call: impl FnMut() -> F) -> Result<T> {
        let clock = self.session.clock();
        let end = clock.now() + RETRY_FOR;
        let mut retry = self.session.backoff(RETRY_FIRST, RETRY_MAX);
        loop {
            match call().await {
                Err(error) if is_away(&error) => {
                    if clock.timeout_at(end, retry.wait()).await.is_err() {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    async fn see<F: Future>(&self, shown: F) {
        if self.session.clock().timeout(VIEW_WAIT, shown).await.is_err() {
            tracing::debug!("metadata is late");
        }
    }
}

fn is_away(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.outcome() == Outcome::DidNotHappen
}

#[cfg(test)]
mod tests {
    use tailwater_rpc::controller::{ConfigChanges, ConfigResource};

    use super::*;
    use crate::testing::Fixture;

    fn request() -> AlterConfigs {
        AlterConfigs {
            resource: ConfigResource::Group("g".to_owned()),
            changes: ConfigChanges::Replace(std::iter::empty().collect()),
            validate_only: false,
        }
    }

    /// A controller that can't be reached for a moment is asked again; one that stays away, for a few seconds only; and never
    /// after an answer that leaves open whether it happened.
    #[tokio::test(start_paused = true)]
    async fn only_what_did_not_happen_is_asked_again() {
        let fixture = Fixture::start().await;
        let creator = TopicCreator::new(fixture.data.session.clone(), fixture.data.view.clone());
        let error = |outcome| Error::Unavailable {
            detail: "away".to_owned(),
            outcome,
        };
        for (outcome, failures, calls, is_done) in [
            (Outcome::DidNotHappen, 0, 1, true),
            (Outcome::DidNotHappen, 3, 4, true),
            (Outcome::Unknown, 1, 1, false),
        ] {
            let before = fixture.controller.fail_changes(error(outcome), failures);
            let altered = creator.alter_configs(request()).await;
            assert_eq!(altered.is_ok(), is_done, "{outcome:?}, {failures} times");
            assert_eq!(fixture.controller.fail_changes(error(outcome), 0) - before, calls);
        }
        let before = fixture
            .controller
            .fail_changes(error(Outcome::DidNotHappen), usize::MAX);
        let begun = fixture.data.runtime.clock.now();
        assert_eq!(
            creator.alter_configs(request()).await,
            Err(error(Outcome::DidNotHappen))
        );
        assert_eq!(fixture.data.runtime.clock.now() - begun, RETRY_FOR);
        assert!(fixture.controller.fail_changes(error(Outcome::DidNotHappen), 0) - before > 5);
    }
}
