//! Making topics and changing them through the controller's catalog, and waiting until this node sees what was done.
//!
//! Owns: what races mean: a topic that somebody else makes at the same time is as good as one's own.

use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::controller::{AlterConfigs, CreatePartitions, CreatedTopic, DeleteRecords, NewTopic};
use tailwater_rpc::{Error, Result};

use crate::session::Session;
use crate::view::{Topic, View};

/// How long an answer waits for this node's metadata to show what the controller has done: clients look there next.
const VIEW_WAIT: Duration = Duration::from_secs(2);

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
        let is_check = topic.validate_only;
        let (name, partitions) = (topic.name.clone(), topic.partitions);
        let created = self
            .session
            .controller()
            .catalog
            .create_topic(self.session.caller(), topic)
            .await;
        let created = created.inspect_err(|error| self.session.judge(error))?;
        if !is_check {
            tracing::info!(topic = name, id = %created.id, partitions, "topic created");
            self.see(self.view.wait_for(created.version)).await;
        }
        Ok(created)
    }

    /// The topic of that name, made if there is none, by whomever.
    ///
    /// # Errors
    /// The controller's, or [`Error::Unavailable`] if this node's metadata doesn't show the topic in time.
    pub async fn ensure(&self, topic: NewTopic) -> Result<Arc<Topic>> {
        let name = topic.name.clone();
        if let Some(found) = self.view.snapshot().topic_named(&name) {
            return Ok(found.clone());
        }
        match self.create(topic).await {
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
                outcome: tailwater_types::Outcome::Unknown,
            })
    }

    /// Deletes a topic. When this answers, the node's metadata doesn't show it any more, unless that is late.
    ///
    /// # Errors
    /// The controller's.
    pub async fn delete(&self, topic: tailwater_types::TopicId) -> Result<()> {
        let name = self.view.snapshot().topic(topic).map(|topic| topic.name.to_string());
        let deleted = self
            .session
            .controller()
            .catalog
            .delete_topic(self.session.caller(), topic)
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
        let altered = catalog.alter_configs(self.session.caller(), request).await;
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
        let created = catalog.create_partitions(self.session.caller(), request).await;
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
        let deleted = catalog.delete_records(self.session.caller(), request).await;
        let version = deleted.inspect_err(|error| self.session.judge(error))?;
        self.see(self.view.wait_for(version)).await;
        Ok(())
    }

    async fn see<F: Future>(&self, shown: F) {
        if self.session.clock().timeout(VIEW_WAIT, shown).await.is_err() {
            tracing::debug!("metadata is late");
        }
    }
}
