//! What the machine does without the server: the disk under the temporary directory, and loopback.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::latency::Percentiles;

const BLOCK_BYTES: usize = 4096;
const STEP_BYTES: usize = 1 << 20;
const STEPS: usize = 512;
const ROUNDS: usize = 5_000;
const ECHO_BYTES: usize = 100;

/// Memory at a block's boundary, as O_DIRECT wants it.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

fn aligned(bytes: usize) -> Vec<Block> {
    vec![Block([0x5a; BLOCK_BYTES]); bytes / BLOCK_BYTES]
}

fn as_bytes(blocks: &[Block]) -> &[u8] {
    // SAFETY: blocks are arrays of bytes without padding, one behind the other.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), std::mem::size_of_val(blocks)) }
}

fn open(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    // Some file systems, tmpfs among them, know no O_DIRECT; then the page cache is measured too.
    options
        .clone()
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .or_else(|_| options.open(path))
}

/// Bytes a second, written and flushed.
pub fn sequential_write(path: &Path) -> Result<f64> {
    let file = open(path)?;
    let step = aligned(STEP_BYTES);
    let begun = Instant::now();
    for number in 0..STEPS {
        file.write_all_at(as_bytes(&step), (number * STEP_BYTES) as u64)?;
    }
    file.sync_data()?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok((STEPS * STEP_BYTES) as f64 / begun.elapsed().as_secs_f64())
}

/// CPU seconds a gigabyte of writing a file through the page cache and flushing it, as objects in a folder are, at the first
/// time and again. Under a hypervisor the first touch of the guest's memory can cost ten times the copy: afterwards what
/// others write finds pages that are backed.
pub fn buffered_write_cpu(path: &Path, gigabytes: usize) -> Result<[f64; 2]> {
    let step = vec![0x5a; 8 * STEP_BYTES];
    let steps = gigabytes * 1_000_000_000 / step.len();
    let mut found = [0.0; 2];
    for cpu_seconds in &mut found {
        let mut file = std::fs::File::create(path)?;
        let before = own_cpu_seconds()?;
        for _ in 0..steps {
            file.write_all(&step)?;
        }
        file.sync_data()?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let written_gigabytes = (steps * step.len()) as f64 / 1e9;
        *cpu_seconds = (own_cpu_seconds()? - before) / written_gigabytes;
        std::fs::remove_file(path)?;
    }
    Ok(found)
}

/// CPU seconds a gigabyte of copying memory, and of receiving from a loopback socket in pieces of 1 MiB: the two units that
/// most of a server's work is made of. A machine that is shared or slow shows here.
pub fn copy_and_receive_cpu() -> Result<[f64; 2]> {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let gigabytes = (STEPS * STEP_BYTES) as f64 / 1e9;
    // Larger than the caches, and touched once before.
    let (from, mut to) = (vec![1_u8; 64 * STEP_BYTES], vec![0_u8; 64 * STEP_BYTES]);
    to.copy_from_slice(&from);
    let before = thread_cpu_seconds();
    for _ in 0..STEPS / 64 {
        std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
    }
    let copy = (thread_cpu_seconds() - before) / gigabytes;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    let sender = std::thread::spawn(move || (0..STEPS).try_for_each(|_| client.write_all(&from[..STEP_BYTES])));
    let before = thread_cpu_seconds();
    while peer.read(&mut to[..STEP_BYTES])? > 0 {}
    let receive = (thread_cpu_seconds() - before) / gigabytes;
    sender.join().expect("it only sends")?;
    Ok([copy, receive])
}

fn own_cpu_seconds() -> Result<f64> {
    super::cpu_seconds(std::process::id())
}

/// CPU time of the calling thread.
fn thread_cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a struct of the kind that the call fills.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    return time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
}

/// A block at a time into a file whose blocks have been written before.
pub fn write_and_flush(path: &Path) -> Result<Percentiles> {
    let file = open(path)?;
    let block = aligned(BLOCK_BYTES);
    let mut position = 0;
    Percentiles::of(ROUNDS, || {
        file.write_all_at(as_bytes(&block), position)?;
        file.sync_data()?;
        position += BLOCK_BYTES as u64;
        Ok(())
    })
}

/// There and back between two threads.
pub fn loopback_echo() -> Result<Percentiles> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    client.set_nodelay(true)?;
    peer.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; ECHO_BYTES];
        while peer
            .read_exact(&mut buffer)
            .and_then(|()| peer.write_all(&buffer))
            .is_ok()
        {}
    });
    let mut buffer = [1; ECHO_BYTES];
    let found = Percentiles::of(ROUNDS, || {
        client.write_all(&buffer)?;
        Ok(client.read_exact(&mut buffer)?)
    })?;
    drop(client);
    echo.join().expect("the echo ends with its connection");
    Ok(found)
}
