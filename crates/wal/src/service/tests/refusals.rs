//! What a start refuses, each with a sentence that names what was found and what was expected.

use std::path::Path;
use std::sync::Arc;

use tailwater_format::device::Superblock;
use tailwater_rpc::wal::Wal;
use tailwater_runtime::config::ByteSize;
use tailwater_runtime::device::MemoryDevice;
use tailwater_runtime::{AlignedBuf, Clock, Device, Metrics, Random, Runtime, Tasks};
use tailwater_types::{DeviceEpoch, NodeId};

use super::super::{WalService, start, start_on};
use crate::testing::{FakeNodes, NODE, open, small_config};
use crate::{Config, Error};

const CAPACITY: usize = 1 << 20;

pub(super) fn runtime() -> Runtime {
    Runtime {
        clock: Clock::system(),
        random: Random::system(),
        tasks: Tasks::new("test"),
        metrics: Metrics::new(),
    }
}

async fn begin(device: &MemoryDevice, node: NodeId, nodes: &Arc<FakeNodes>) -> Result<Arc<WalService>, Error> {
    let config = small_config(CAPACITY as u64);
    start_on(
        Arc::new(device.clone()),
        "memory".to_owned(),
        config,
        node,
        None,
        nodes.clone(),
        runtime(),
    )
    .await
}

async fn refusal(device: &MemoryDevice, node: NodeId, nodes: &Arc<FakeNodes>) -> String {
    begin(device, node, nodes)
        .await
        .err()
        .expect("must be refused")
        .to_string()
}

/// A device of node 101 in cluster 7 with one journal on it, shut down.
async fn used() -> (MemoryDevice, Arc<FakeNodes>) {
    let (device, nodes) = (MemoryDevice::new(CAPACITY), FakeNodes::new(7));
    let wal = begin(&device, NODE, &nodes).await.unwrap();
    drop(wal.open_journal(open(1, wal.device())).await.unwrap());
    wal.shutdown().await;
    (device, nodes)
}

fn change_superblocks(device: &MemoryDevice, change: impl Fn(&mut Superblock)) {
    for slot in [0, 4096] {
        let mut page = AlignedBuf::zeroed(4096);
        device.read_at(&mut page, slot).unwrap();
        if let Ok(mut superblock) = Superblock::decode(&page) {
            change(&mut superblock);
            device.damage(slot as usize, &superblock.encode());
        }
    }
}

#[tokio::test]
async fn another_nodes_device_is_refused() {
    let (device, nodes) = used().await;
    assert_eq!(
        refusal(&device, NodeId(102), &nodes).await,
        "memory belongs to node 101, this is node 102"
    );
    assert!(begin(&device, NODE, &nodes).await.is_ok());
}

#[tokio::test]
async fn another_clusters_device_is_refused() {
    let (device, _) = used().await;
    let other = FakeNodes::new(8);
    assert!(
        refusal(&device, NODE, &other)
            .await
            .starts_with("the controller refuses the device")
    );
}

#[tokio::test]
async fn a_device_epoch_that_was_not_granted_is_refused() {
    let (device, nodes) = used().await;
    nodes.skip_epoch();
    let text = refusal(&device, NODE, &nodes).await;
    assert_eq!(
        text,
        "the controller refuses the device: device epoch 1 found, 3 expected"
    );
    let (device, nodes) = used().await;
    change_superblocks(&device, |superblock| superblock.epoch = DeviceEpoch(9));
    assert!(
        refusal(&device, NODE, &nodes)
            .await
            .contains("device epoch 9 found, 1 expected")
    );
}

/// A grant whose confirmation got lost is not the end of the device.
#[tokio::test]
async fn a_start_that_was_cut_off_can_be_repeated() {
    let (device, nodes) = used().await;
    let before = device.power_cut(4096, |_, _| true);
    let wal = begin(&before, NODE, &nodes).await.unwrap();
    wal.shutdown().await;
    assert!(begin(&before, NODE, &nodes).await.is_ok());
}

#[tokio::test]
async fn a_smaller_device_is_refused() {
    let (device, nodes) = used().await;
    change_superblocks(&device, |superblock| superblock.capacity_bytes *= 2);
    let text = refusal(&device, NODE, &nodes).await;
    assert_eq!(text, "memory was formatted with 2097152 bytes and has 1048576 now");
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_alone() {
    let (device, nodes) = (MemoryDevice::new(CAPACITY), FakeNodes::new(7));
    device.damage(700_000, b"somebody's");
    let text = refusal(&device, NODE, &nodes).await;
    assert_eq!(
        text,
        "memory is not empty and not a Tailwater device; it is left as it is"
    );
    let mut page = AlignedBuf::zeroed(8192);
    device.read_at(&mut page, 0).unwrap();
    assert!(page.iter().all(|&byte| byte == 0));
}

#[tokio::test]
async fn a_newer_superblock_version_is_refused() {
    let (device, nodes) = used().await;
    device.damage(4, &[3]);
    assert_eq!(
        refusal(&device, NODE, &nodes).await,
        "memory: superblock: version 3 is not known here (newest: 2)"
    );
}

#[tokio::test]
async fn damaged_superblocks_are_refused() {
    let (device, nodes) = used().await;
    device.damage(30, b"xx");
    device.damage(4096 + 30, b"xx");
    assert!(
        refusal(&device, NODE, &nodes)
            .await
            .starts_with("memory: superblock: CRC32C is")
    );
}

/// A hole in what is known to be flushed names the device and the place.
#[tokio::test]
async fn a_hole_is_refused() {
    let (device, nodes) = used().await;
    device.damage(8192 + 80, b"xx");
    let text = refusal(&device, NODE, &nodes).await;
    let expected = "memory is damaged at byte 8192 (log position 0): no valid write, but the superblock says that the log was flushed up to 4096";
    assert_eq!(text, expected);
}

/// A start with settings that can't work says which one.
#[tokio::test]
async fn bad_settings_are_refused() {
    let check = |change: fn(&mut Config), text: &str| {
        let mut config = Config::default();
        change(&mut config);
        assert!(config.validate().unwrap_err().contains(text), "{text}");
    };
    assert_eq!(Config::default().validate(), Ok(()));
    check(|config| config.path = "".into(), "wal.path");
    check(|config| config.capacity = ByteSize(1 << 20), "wal.capacity is 1MiB");
    check(|config| config.flush_window = ByteSize(1 << 30), "wal.flush_window");
    check(|config| config.credit_window = ByteSize(1), "wal.credit_window");
    check(|config| config.max_entry = ByteSize(1), "wal.max_entry");
    check(|config| config.reserve_percent = 0, "wal.reserve_percent");
    check(|config| config.read_memory = ByteSize(1), "wal.read_memory");
    check(|config| config.heartbeat_interval.0 = 0, "wal.heartbeat_interval");
    let config = Config {
        capacity: ByteSize(1),
        ..Config::default()
    };
    assert!(matches!(
        start(config, NODE, None, FakeNodes::new(1), runtime()).await.err(),
        Some(Error::Config(_))
    ));
}

async fn begin_file(path: &Path, nodes: &Arc<FakeNodes>) -> Result<Arc<WalService>, Error> {
    let config = Config {
        path: path.to_owned(),
        capacity: ByteSize(16 << 20),
        flush_window: ByteSize(4 << 20),
        ..Config::default()
    };
    start(config, NODE, None, nodes.clone(), runtime()).await
}

/// Files: a foreign one is left as it is, one in use is named, an empty one and none are formatted, a directory is none.
#[tokio::test]
async fn files_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = FakeNodes::new(7);
    let path = folder.path().join("wal");
    std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
    let text = begin_file(&path, &nodes).await.err().unwrap().to_string();
    assert_eq!(
        text,
        format!(
            "{} is not empty and not a Tailwater device; it is left as it is",
            path.display()
        )
    );
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 20_000]);
    std::fs::write(&path, b"").unwrap();
    let wal = begin_file(&path, &nodes).await.unwrap();
    let text = begin_file(&path, &nodes).await.err().unwrap().to_string();
    assert_eq!(text, format!("{} is in use by another process", path.display()));
    wal.shutdown().await;
    drop(wal);
    let text = begin_file(folder.path(), &nodes).await.err().unwrap().to_string();
    assert!(text.ends_with("is not a regular file"), "{text}");
}
