//! One conformance suite over every implementation, and what only files can show.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_runtime::{Clock, Metrics, Random, Tasks};
use tailwater_types::{Kind, Outcome};

use crate::open::{Location, Services, StorageOptions, open};
use crate::{Failure, Fault, FaultyStorage, ObjectStorage, Operation, StoreError};

pub(crate) fn services() -> Services {
    Services {
        clock: Clock::system(),
        random: Random::seeded(1),
        tasks: Tasks::new("test"),
        metrics: Metrics::new(),
    }
}

fn open_at(location: &Location) -> Arc<dyn ObjectStorage> {
    open(location, &StorageOptions::default(), &services()).unwrap()
}

fn memory() -> Arc<dyn ObjectStorage> {
    open_at(&Location::Memory)
}

/// What every store must do.
pub(crate) async fn conformance(storage: &dyn ObjectStorage) {
    let key = "ab/cluster_-x/1-1";
    let missing = |error: StoreError| assert_eq!(error.kind(), Kind::NotFound, "{error}");
    missing(storage.head(key).await.unwrap_err());
    missing(storage.get_range(key, 0..1).await.unwrap_err());
    missing(storage.get_tail(key, 1).await.unwrap_err());
    storage.delete(key).await.unwrap();

    let chunks = ["0123", "", "4", "56789"]
        .map(|text| Bytes::from_static(text.as_bytes()))
        .to_vec();
    storage.put(key, chunks.clone()).await.unwrap();
    assert_eq!(storage.head(key).await.unwrap(), 10);
    assert_eq!(storage.get_range(key, 0..10).await.unwrap(), "0123456789");
    assert_eq!(storage.get_range(key, 3..6).await.unwrap(), "345");
    for (asked, found) in [(3, "789"), (10, "0123456789"), (1000, "0123456789")] {
        let tail = storage.get_tail(key, asked).await.unwrap();
        assert_eq!((&tail.bytes[..], tail.object_bytes), (found.as_bytes(), 10));
    }
    for beyond in [5..11, 10..11, 100..200] {
        let error = storage.get_range(key, beyond).await.unwrap_err();
        assert!(!error.is_retriable(), "{error}");
    }
    storage.put(key, chunks).await.unwrap();
    storage.delete(key).await.unwrap();
    missing(storage.head(key).await.unwrap_err());

    // Larger than two parts, and not a multiple of one.
    let large: Vec<_> = (0..21).map(|i| Bytes::from(vec![i; 1_000_003])).collect();
    storage.put("large", large.clone()).await.unwrap();
    assert_eq!(
        storage.get_range("large", 0..21 * 1_000_003).await.unwrap(),
        large.concat()
    );

    for wrong in ["../outside", "a//b", "/a", ""] {
        let put = storage.put(wrong, vec![Bytes::from_static(b"x")]).await;
        if let Err(error) = put {
            assert_eq!(
                (error.kind(), error.outcome()),
                (Kind::Invalid, Outcome::DidNotHappen),
                "{wrong}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance(&*memory()).await;
}

#[tokio::test]
async fn files_conform() {
    let folder = tempfile::tempdir().unwrap();
    conformance(&*open_at(&Location::File {
        folder: folder.path().join("not/there yet"),
    }))
    .await;
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing outside the folder"
    );
}

#[tokio::test]
async fn a_wrapper_without_orders_conforms() {
    conformance(&FaultyStorage::new(memory())).await;
}

/// Objects in files outlive the store that wrote them.
#[tokio::test]
async fn files_are_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File {
        folder: folder.path().to_owned(),
    };
    open_at(&location)
        .put("00/c/1-1", vec![Bytes::from_static(b"kept")])
        .await
        .unwrap();
    assert_eq!(open_at(&location).get_range("00/c/1-1", 0..4).await.unwrap(), "kept");
}

/// Deleting an object also removes what killed puts of it left beside it, and nothing else.
#[tokio::test]
async fn delete_removes_leftovers_of_killed_puts() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open_at(&Location::File {
        folder: folder.path().to_owned(),
    });
    storage.put("c/1-1", vec![Bytes::from_static(b"x")]).await.unwrap();
    for leftover in ["1-1#1", "1-1#2", "1-10#1"] {
        std::fs::write(folder.path().join("c").join(leftover), b"half").unwrap();
    }
    storage.delete("c/1-1").await.unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path().join("c"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["1-10#1"]);
}

/// A folder that can't be one is refused by its name.
#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let location = Location::File {
        folder: file.path().join("x"),
    };
    let error = open(&location, &StorageOptions::default(), &services())
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains(&location.to_string()), "{error}");
}

/// Faults strike the call that was named, before or after its effect, once.
#[tokio::test]
async fn faults_strike_once() {
    let storage = FaultyStorage::new(memory());
    let chunks = || vec![Bytes::from_static(b"x")];
    storage.inject(Operation::Put, 1, Fault::Before(Failure::Unavailable));
    storage.inject(Operation::Put, 2, Fault::After(Failure::Unavailable));
    storage.put("a", chunks()).await.unwrap();
    let before = storage.put("b", chunks()).await.unwrap_err();
    assert_eq!(before.outcome(), Outcome::DidNotHappen);
    assert!(storage.head("b").await.is_err());
    let after = storage.put("c", chunks()).await.unwrap_err();
    assert_eq!(after.outcome(), Outcome::Unknown);
    assert_eq!(storage.head("c").await.unwrap(), 1);
    storage.put("d", chunks()).await.unwrap();
}

/// An outage fails every call of its kind until it ends.
#[tokio::test]
async fn an_outage_lasts_until_it_ends() {
    let storage = FaultyStorage::new(memory());
    storage.set_outage(Operation::Put, Some(Failure::NoSpace));
    for _ in 0..2 {
        let error = storage.put("a", Vec::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (Kind::Throttled, true));
    }
    storage.set_outage(Operation::Put, None);
    storage.put("a", vec![Bytes::from_static(b"x")]).await.unwrap();
    assert_eq!(storage.begun().len(), 3);
}
