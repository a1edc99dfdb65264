//! A device that fails on order, to test what its user does then.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{Device, DeviceError};

/// What was done to a device when it failed, and what a fault is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Open,
    Read,
    Write,
    Flush,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
        })
    }
}

/// How an operation goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Fails with this OS error (`libc::EIO`, `libc::ENOSPC`) and has no effect.
    Before(i32),
    /// Takes effect, then fails with this OS error.
    After(i32),
    /// Waits until released, then runs: a slow disk, without a test that depends on time.
    Held(Hold),
}

/// Holds operations back until released; clones are the same hold.
#[derive(Clone, Debug, Default)]
pub struct Hold {
    inner: Arc<(Mutex<HoldState>, Condvar)>,
}

#[derive(Debug, Default)]
struct HoldState {
    released: bool,
    waiting: usize,
}

impl Hold {
    /// Lets everything through, now and later.
    pub fn release(&self) {
        self.inner.0.lock().released = true;
        self.inner.1.notify_all();
    }

    /// Operations that wait here now.
    pub fn waiting(&self) -> usize {
        self.inner.0.lock().waiting
    }

    fn wait(&self) {
        let mut state = self.inner.0.lock();
        state.waiting += 1;
        self.inner.1.wait_while(&mut state, |state| !state.released);
        state.waiting -= 1;
    }
}

/// Wraps a device; without orders it changes nothing.
pub struct FaultyDevice<D> {
    device: D,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many of each operation have begun: reads, writes, flushes.
    begun: [u64; 3],
    orders: Vec<(Operation, u64, Fault)>,
}

impl<D: Device> FaultyDevice<D> {
    pub fn new(device: D) -> Self {
        Self {
            device,
            state: Mutex::default(),
        }
    }

    /// Sets a fault on the `nth` read, write or flush from now, 0 being the next one. Each fault strikes once.
    pub fn inject(&self, operation: Operation, nth: u64, fault: Fault) {
        let mut state = self.state.lock();
        let at = state.begun[index(operation)] + nth;
        state.orders.push((operation, at, fault));
    }

    /// How many of this operation have begun.
    pub fn begun(&self, operation: Operation) -> u64 {
        self.state.lock().begun[index(operation)]
    }

    pub fn inner(&self) -> &D {
        &self.device
    }

    fn run(
        &self,
        operation: Operation,
        position: u64,
        run: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let fault = self.next_fault(operation);
        let error = |code| {
            let source = io::Error::from_raw_os_error(code);
            DeviceError::Io {
                operation,
                device: "faulty".to_owned(),
                position,
                source,
            }
        };
        match fault {
            None => run(),
            Some(Fault::Before(code)) => Err(error(code)),
            Some(Fault::After(code)) => run().and_then(|()| Err(error(code))),
            Some(Fault::Held(hold)) => {
                hold.wait();
                run()
            }
        }
    }

    fn next_fault(&self, operation: Operation) -> Option<Fault> {
        let mut state = self.state.lock();
        let count = state.begun[index(operation)];
        state.begun[index(operation)] += 1;
        let order = state
            .orders
            .iter()
            .position(|&(of, at, _)| of == operation && at == count)?;
        Some(state.orders.swap_remove(order).2)
    }
}

fn index(operation: Operation) -> usize {
    match operation {
        Operation::Open => panic!("faults are set on reads, writes and flushes"),
        Operation::Read => 0,
        Operation::Write => 1,
        Operation::Flush => 2,
    }
}

impl<D: Device> Device for FaultyDevice<D> {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<(), DeviceError> {
        self.run(Operation::Read, position, || self.device.read_at(buffer, position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), DeviceError> {
        self.run(Operation::Write, position, || self.device.write_at(bytes, position))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.run(Operation::Flush, 0, || self.device.flush())
    }
}
