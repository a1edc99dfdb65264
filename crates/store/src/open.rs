//! Opening a store by its URL.
//!
//! Owns: what a URL and the settings mean. Does not own: where they come from (`node` reads files and environment).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, RetryConfig};
use tailwater_runtime::{Clock, Metrics, Random, Tasks};

use crate::adapter::{Adapter, Multipart};
use crate::error::StoreError;
use crate::retry::RetryPolicy;
use crate::storage::ObjectStorage;

/// S3 refuses smaller parts, except the last.
const MIN_PART_BYTES: usize = 5 << 20;

/// Where objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `file:///folder`: an absolute path, taken as it is (no percent-decoding). Created if it isn't there.
    File { folder: PathBuf },
    /// `s3://bucket` or `s3://bucket/prefix`.
    S3 { bucket: String, prefix: String },
    /// `memory:///`: gone with the process.
    Memory,
}

impl Location {
    /// Whether objects outlive the process: a data directory that does needs a store that does.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { folder } => write!(f, "file://{}", folder.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => f.write_str("memory:///"),
        }
    }
}

impl FromStr for Location {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        let bad = |reason: &str| StoreError::BadLocation {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| bad("not a URL like file:///folder, s3://bucket/prefix or memory:///"))?;
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::File {
                folder: PathBuf::from(rest),
            }),
            "file" => Err(bad("the path must be absolute, as in file:///folder")),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_end_matches('/');
                if bucket.is_empty() {
                    return Err(bad("the bucket is missing, as in s3://bucket/prefix"));
                }
                if prefix
                    .split('/')
                    .any(|part| part.is_empty() || part == "." || part == "..")
                    && !prefix.is_empty()
                {
                    return Err(bad("the prefix has an empty part, \".\" or \"..\""));
                }
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            "memory" if rest.is_empty() || rest == "/" => Ok(Self::Memory),
            "memory" => Err(bad("a memory store has no path: memory:///")),
            _ => Err(bad("the scheme must be file, s3 or memory")),
        }
    }
}

#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Settings of the S3 client by the names that `object_store` gives them, such as `region`, `endpoint`,
    /// `access_key_id` or `allow_http`; each also with the prefix `aws_`.
    pub s3: BTreeMap<String, String>,
    /// Objects above this are put in parts of this size, where the store has such puts. At least 5 MiB.
    pub part_bytes: usize,
    /// Parts of one object in flight at the same time.
    pub parallel_parts: usize,
    pub retry: RetryPolicy,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            s3: BTreeMap::new(),
            part_bytes: 8 << 20,
            parallel_parts: 4,
            retry: RetryPolicy::default(),
        }
    }
}

/// What a store needs from the process.
#[derive(Clone)]
pub struct Services {
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
    pub metrics: Metrics,
}

/// Opens the store, without asking it anything yet, except that a folder is created and synced.
pub fn open(
    location: &Location,
    options: &StorageOptions,
    services: &Services,
) -> Result<Arc<dyn ObjectStorage>, StoreError> {
    if options.part_bytes < MIN_PART_BYTES {
        let reason = format!("{} is less than {MIN_PART_BYTES}", options.part_bytes);
        return Err(StoreError::BadSetting {
            name: "part_bytes".to_owned(),
            reason,
        });
    }
    let bad = |error: object_store::Error| StoreError::BadLocation {
        url: location.to_string(),
        reason: error.to_string(),
    };
    let adapter = match location {
        Location::Memory => {
            let store = Arc::new(InMemory::new());
            Adapter::new(store.clone(), options.retry, services).with_multipart(Multipart::new(store, options))
        }
        Location::File { folder } => {
            create_durably(folder).map_err(|error| StoreError::BadLocation {
                url: location.to_string(),
                reason: error.to_string(),
            })?;
            // Syncs the file before it gets its name, and the folder after (docs/design.md section 3, Upload).
            let store = LocalFileSystem::new_with_prefix(folder).map_err(bad)?.with_fsync(true);
            Adapter::new(Arc::new(store), options.retry, services).with_folder(folder)
        }
        Location::S3 { bucket, prefix } => {
            let store = Arc::new(s3_builder(bucket, &options.s3)?.build().map_err(bad)?);
            Adapter::new(store.clone(), options.retry, services)
                .with_multipart(Multipart::new(store, options))
                .with_prefix(prefix)
        }
    };
    Ok(Arc::new(adapter))
}

/// Whether [`StorageOptions::s3`] knows this name: `node` passes on those variables of the environment that it does.
pub fn is_s3_setting(name: &str) -> bool {
    AmazonS3ConfigKey::from_str(name).is_ok()
}

fn s3_builder(bucket: &str, settings: &BTreeMap<String, String>) -> Result<AmazonS3Builder, StoreError> {
    // Retries are ours: one policy and one deadline for all stores.
    let once = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::ZERO,
    };
    // Objects are deleted one by one, which every store that speaks S3 can do.
    let mut builder = AmazonS3Builder::new()
        .with_retry(once)
        .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
    for (name, value) in settings {
        let key = AmazonS3ConfigKey::from_str(name).map_err(|_| StoreError::BadSetting {
            name: name.clone(),
            reason: "no such setting of the S3 client".to_owned(),
        })?;
        builder = builder.with_config(key, value);
    }
    Ok(builder.with_bucket_name(bucket))
}

/// Creates a folder and those above it, and makes their names durable: an object in a folder that is gone after a
/// power cut is gone too.
fn create_durably(folder: &Path) -> std::io::Result<()> {
    let mut missing = Vec::new();
    let mut existing = folder;
    while !existing.exists() {
        missing.push(existing);
        let Some(parent) = existing.parent() else { break };
        existing = parent;
    }
    std::fs::create_dir_all(folder)?;
    for created in missing {
        if let Some(parent) = created.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each form of URL means its place, and prints as it was.
    #[test]
    fn urls_are_understood() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        let good = [
            (
                "file:///var/lib/some folder",
                Location::File {
                    folder: "/var/lib/some folder".into(),
                },
            ),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/some/prefix", s3("bucket", "some/prefix")),
            ("memory:///", Location::Memory),
        ];
        for (url, location) in good {
            assert_eq!(url.parse(), Ok(location.clone()));
            assert_eq!(location.to_string(), url);
        }
        assert_eq!("s3://bucket/prefix/".parse(), Ok(s3("bucket", "prefix")));
    }

    /// Each wrong URL is refused with a sentence that says what is wrong.
    #[test]
    fn wrong_urls_are_refused() {
        let wrong = [
            ("/var/lib", "not a URL"),
            ("file://relative/path", "absolute"),
            ("s3:///prefix", "bucket is missing"),
            ("s3://bucket/a//b", "prefix"),
            ("s3://bucket/../b", "prefix"),
            ("memory:///x", "no path"),
            ("gs://bucket", "scheme"),
        ];
        for (url, says) in wrong {
            let error = url.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(url) && error.contains(says), "{error}");
        }
    }

    /// An unknown S3 setting is refused by its name.
    #[test]
    fn unknown_settings_are_refused() {
        let settings = BTreeMap::from([("regoin".to_owned(), "x".to_owned())]);
        let error = s3_builder("bucket", &settings).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "object store setting regoin: no such setting of the S3 client"
        );
        assert!(is_s3_setting("aws_region") && is_s3_setting("allow_http") && !is_s3_setting("path"));
    }
}
