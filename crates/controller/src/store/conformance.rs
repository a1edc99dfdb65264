//! What every store must do, and what only the embedded one does.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tailwater_runtime::Tasks;

use super::*;

/// Makes the same store again, as a process that starts anew would.
type Reopen = Box<dyn Fn() -> Box<dyn MetadataStore>>;

fn sled_in(path: &Path) -> SledStore {
    let options = SledOptions {
        path: path.to_owned(),
        cache_bytes: 1 << 20,
        ballast_bytes: 1 << 16,
    };
    SledStore::new(options, Tasks::new("test"))
}

/// Every implementation, by name.
fn stores(folder: &Path) -> Vec<(&'static str, Reopen)> {
    let (memory, faulty) = (MemoryStore::default(), MemoryStore::default());
    let path = folder.join("sled");
    vec![
        ("memory", Box::new(move || Box::new(memory.clone()))),
        (
            "faulty",
            Box::new(move || Box::new(FaultyStore::new(faulty.clone(), Faults::default()))),
        ),
        ("sled", Box::new(move || Box::new(sled_in(&path)))),
    ]
}

fn put(key: u8, value: &[u8]) -> Write {
    (vec![key, 0], Some(value.to_vec()))
}

fn remove(key: u8) -> Write {
    (vec![key, 0], None)
}

fn pair(key: u8, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (vec![key, 0], value.to_vec())
}

/// What was answered is there after the next start, in order of keys: values empty, small, large, replaced by larger and
/// smaller ones, and removed.
#[tokio::test]
async fn keeps_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, reopen) in stores(folder.path()) {
        let (large, larger) = (vec![1; 20_000], vec![2; 600_000]);
        let mut store = reopen();
        assert_eq!(store.load().await.unwrap(), [], "{name}");
        let batch = vec![put(9, b""), put(3, &large), put(5, b"x"), put(4, &larger)];
        store.commit(batch).await.unwrap();
        store
            .commit(vec![put(3, &larger), put(4, &large), remove(5)])
            .await
            .unwrap();
        store.commit(vec![remove(7), put(6, &larger)]).await.unwrap();
        store.commit(vec![remove(6)]).await.unwrap();
        store.close().await;
        drop(store);
        let expected = [pair(3, &larger), pair(4, &large), pair(9, b"")];
        let mut store = reopen();
        assert_eq!(store.load().await.unwrap(), expected, "{name}");
        store.commit(vec![remove(3)]).await.unwrap();
        assert_eq!(store.load().await.unwrap(), expected[1..], "{name}");
        store.close().await;
    }
}

/// A fault of unknown outcome stops the store until it is loaded, and the load says what happened.
#[tokio::test]
async fn a_lost_outcome_is_found_by_loading() {
    for written in [false, true] {
        let faults = Faults::default();
        let mut store = FaultyStore::new(MemoryStore::default(), faults.clone());
        faults.add(Fault::Lost { written });
        let error = store.commit(vec![put(1, b"a")]).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        let error = store.commit(vec![put(2, b"b")]).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::DidNotHappen);
        assert_eq!(store.load().await.unwrap().len(), usize::from(written));
        store.commit(vec![put(2, b"b")]).await.unwrap();
    }
}

/// No value gets a file of its own in sled: those are never synced.
#[tokio::test]
async fn sled_makes_no_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = sled_in(folder.path());
    store.load().await.unwrap();
    for round in 0..40u8 {
        let batch = (0..20).map(|key| put(key, &vec![round; 50_000])).collect();
        store.commit(batch).await.unwrap();
    }
    let blobs = std::fs::read_dir(folder.path().join("blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
    store.close().await;
}

/// A store in use is not opened a second time, and the refusal says so.
#[tokio::test]
async fn sled_is_used_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = sled_in(folder.path());
    first.load().await.unwrap();
    let error = sled_in(folder.path()).load().await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    first.close().await;
    sled_in(folder.path()).load().await.unwrap();
}

/// Keys that this store didn't write are refused, not guessed at.
#[tokio::test]
async fn sled_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = ::sled::open(folder.path()).unwrap();
    db.insert(b"k", b"v").unwrap();
    drop(db);
    let error = sled_in(folder.path()).load().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

/// A random history of batches, each read back as a map would have it, over several starts.
#[tokio::test]
async fn sled_is_a_map() {
    let folder = tempfile::tempdir().unwrap();
    let random = tailwater_runtime::Random::seeded(5);
    let expected = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    for _ in 0..5 {
        let mut store = sled_in(folder.path());
        let found: std::collections::BTreeMap<_, _> = store.load().await.unwrap().into_iter().collect();
        assert_eq!(found, *expected.lock());
        for _ in 0..30 {
            let mut batch = Vec::new();
            for key in 0..random.range(1..30) as u8 {
                let length = random.range(0..3) * random.range(0..9_000);
                let value = (!random.chance(4)).then(|| vec![random.u64() as u8; length as usize]);
                batch.push((vec![key], value));
            }
            for (key, value) in &batch {
                match value {
                    Some(value) => expected.lock().insert(key.clone(), value.clone()),
                    None => expected.lock().remove(key),
                };
            }
            store.commit(batch).await.unwrap();
        }
        store.close().await;
    }
}

/// Prints what a batch costs: `cargo test -p tailwater-controller --release -- --ignored --nocapture batch_latency`.
#[tokio::test]
#[ignore = "a measurement"]
async fn batch_latency() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let mut store = sled_in(folder.path());
    store.load().await.unwrap();
    let clock = tailwater_runtime::Clock::system();
    let mut took = Vec::new();
    for round in 0..2000u64 {
        let batch = (0..4u64).map(|key| ((key * round % 997).to_be_bytes().to_vec(), Some(vec![7; 200])));
        let began = clock.now();
        store.commit(batch.collect()).await.unwrap();
        took.push(clock.now() - began);
    }
    took.sort();
    println!("p50 {:?} p99 {:?}", took[1000], took[1980]);
    // What its log grows to when a few large records are written over and over, with some cold ones between them.
    for round in 0..10_000u64 {
        let cold = (round.to_be_bytes().to_vec(), Some(vec![1; 100]));
        let hot = ((round % 7).to_be_bytes().to_vec(), Some(vec![2; 10_000]));
        store.commit(vec![cold, hot]).await.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("db")).unwrap().len();
    println!("log of {} MiB after 100 MB", log >> 20);
    store.close().await;
}
