use std::os::unix::fs::symlink;

use super::*;
use crate::pool::AlignedBuf;
use crate::random::Random;

const SIZE: usize = 64 << 10;

fn page(fill: u8) -> AlignedBuf {
    let mut page = AlignedBuf::zeroed(ALIGNMENT_BYTES);
    page.fill(fill);
    page
}

fn read(device: &dyn Device, position: u64) -> u8 {
    let mut page = page(0xee);
    device.read_at(&mut page, position).unwrap();
    assert!(page.iter().all(|&byte| byte == page[0]), "a torn page at {position}");
    page[0]
}

/// What every device of `SIZE` zeroes must do.
fn conformance(device: &dyn Device) {
    assert_eq!((device.len(), device.is_empty()), (SIZE as u64, false));
    assert_eq!(read(device, 0), 0);
    let last = (SIZE - ALIGNMENT_BYTES) as u64;
    device.write_at(&page(1), 0).unwrap();
    device.write_at(&page(2), last).unwrap();
    assert_eq!((read(device, 0), read(device, 4096), read(device, last)), (1, 0, 2));
    device.flush().unwrap();
    device.write_at(&page(3), 0).unwrap();
    assert_eq!((read(device, 0), read(device, last)), (3, 2));
    device.flush().unwrap();

    let mut large = AlignedBuf::zeroed(2 * ALIGNMENT_BYTES);
    for position in [SIZE as u64, last, u64::MAX - 4095] {
        let write = device.write_at(&large, position).unwrap_err();
        assert!(matches!(write, DeviceError::OutOfRange { .. }), "{write}");
        let read = device.read_at(&mut large, position).unwrap_err();
        assert!(matches!(read, DeviceError::OutOfRange { .. }), "{read}");
    }
    let misaligned = [
        device.write_at(&large[..4096], 512),
        device.write_at(&large[..100], 0),
        device.write_at(&large[8..4096 + 8], 0),
        device.read_at(&mut large[8..4096 + 8], 0),
    ];
    for result in misaligned {
        assert!(matches!(result, Err(DeviceError::Misaligned { .. })), "{result:?}");
    }
    assert_eq!((read(device, 0), read(device, last)), (3, 2));
}

#[test]
fn a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance(&FileDevice::create(&folder.path().join("wal"), SIZE as u64).unwrap());
}

#[test]
fn memory_conforms() {
    conformance(&MemoryDevice::new(SIZE));
}

#[test]
fn a_wrapper_without_orders_conforms() {
    conformance(&FaultyDevice::new(MemoryDevice::new(SIZE)));
}

/// A file comes back with its content, is allocated in full, and leaves nothing of its making behind.
#[test]
fn a_file_is_allocated_and_reopened() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal");
    std::fs::write(folder.path().join("wal.partial"), b"interrupted").unwrap();
    let device = FileDevice::create(&path, SIZE as u64 + 100).unwrap();
    assert!(path.metadata().unwrap().blocks() * 512 >= SIZE as u64);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    device.write_at(&page(5), 8192).unwrap();
    device.flush().unwrap();
    drop(device);
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(read(&FileDevice::open(&link, SIZE as u64).unwrap(), 8192), 5);
}

/// A file that another handle holds, that is too small, missing, no file, or already there is refused by its own error.
#[test]
fn unfit_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal");
    let missing = FileDevice::open(&path, 1).unwrap_err();
    assert!(matches!(missing, DeviceError::NotFound { .. }), "{missing}");
    let held = FileDevice::create(&path, SIZE as u64).unwrap();
    let in_use = FileDevice::open(&path, 1).unwrap_err();
    assert_eq!(
        in_use.to_string(),
        format!("{} is in use by another process", path.display())
    );
    drop(held);
    let small = FileDevice::open(&path, 1 << 20).unwrap_err();
    assert!(
        small
            .to_string()
            .ends_with("has 65536 bytes, at least 1048576 are needed"),
        "{small}"
    );
    let exists = FileDevice::create(&path, SIZE as u64).unwrap_err();
    assert!(matches!(exists, DeviceError::Exists { .. }), "{exists}");
    for other in [folder.path(), std::path::Path::new("/dev/null")] {
        let refused = FileDevice::open(other, 1).unwrap_err();
        assert!(matches!(refused, DeviceError::NotRegular { .. }), "{refused}");
    }
    let huge = FileDevice::create(&folder.path().join("huge"), 1 << 62).unwrap_err();
    assert!(matches!(huge, DeviceError::NoSpace { .. }), "{huge}");
    assert!(!folder.path().join("huge.partial").exists());
}

/// A power cut keeps all that was flushed, any chosen part of the rest, and ends every old handle.
#[test]
fn a_power_cut_keeps_what_was_flushed() {
    let device = MemoryDevice::new(SIZE);
    device.write_at(&page(1), 0).unwrap();
    device.flush().unwrap();
    device.write_at(&page(2), 0).unwrap();
    device.write_at(&page(3), 4096).unwrap();
    assert_eq!(device.unflushed_writes(), 2);
    let after = device.power_cut(4096, |write, _| write == 1);
    assert_eq!((read(&after, 0), read(&after, 4096)), (1, 3));
    assert!(device.flush().is_err() && device.clone().write_at(&page(4), 0).is_err());

    after.write_at(&page(9), 0).unwrap();
    let torn = after.power_cut(512, |_, sector| sector == 7);
    let mut found = page(0);
    torn.read_at(&mut found, 0).unwrap();
    assert_eq!((found[3583], found[3584], found[4095]), (1, 9, 9));
}

/// A random power cut repeats with its seed, and over many seeds keeps, loses and tears.
#[test]
fn a_random_power_cut_repeats_with_its_seed() {
    let cut = |seed| {
        let device = MemoryDevice::new(SIZE);
        device.write_at(&page(1), 0).unwrap();
        let mut found = page(0);
        device
            .power_cut_at_random(&Random::seeded(seed))
            .read_at(&mut found, 0)
            .unwrap();
        found.iter().filter(|&&byte| byte == 1).count()
    };
    let survived: Vec<_> = (0..50).map(cut).collect();
    assert_eq!(survived, (0..50).map(cut).collect::<Vec<_>>());
    let torn = |count: &usize| *count > 0 && *count < 4096;
    assert!(survived.contains(&0) && survived.contains(&4096) && survived.iter().any(torn));
}

/// Ordered faults strike the operation that was named, before or after its effect, once.
#[test]
fn faults_strike_once() {
    let device = FaultyDevice::new(MemoryDevice::new(SIZE));
    device.inject(Operation::Write, 1, Fault::Before(libc::ENOSPC));
    device.inject(Operation::Flush, 0, Fault::After(libc::EIO));
    device.write_at(&page(1), 0).unwrap();
    let failed = device.write_at(&page(2), 0).unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Unknown);
    assert_eq!(read(&device, 0), 1);
    assert!(device.flush().is_err());
    assert_eq!(device.inner().unflushed_writes(), 0);
    device.write_at(&page(3), 0).unwrap();
    device.flush().unwrap();
    assert_eq!((device.begun(Operation::Write), device.begun(Operation::Flush)), (3, 2));
}

/// A held operation waits, without an effect, until it is released.
#[test]
fn a_held_flush_waits() {
    let device = FaultyDevice::new(MemoryDevice::new(SIZE));
    let hold = Hold::default();
    device.inject(Operation::Flush, 0, Fault::Held(hold.clone()));
    device.write_at(&page(1), 0).unwrap();
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| device.flush());
        while hold.waiting() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(device.inner().unflushed_writes(), 1);
        hold.release();
        flush.join().unwrap().unwrap();
    });
    assert_eq!(device.inner().unflushed_writes(), 0);
}
