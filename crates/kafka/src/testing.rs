//! For tests: filled-in messages, and a count of what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};

use crate::message::Field;
use crate::{ErrorCode, Records, Str, Uuid, Version, Wire};

/// A small generator (SplitMix64): the same seed gives the same messages.
pub(crate) struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Makes up a value in which nearly everything that the version can say is said.
pub(crate) trait Fill: Sized {
    fn fill(rng: &mut Rng, version: Version) -> Self;
}

impl Field {
    pub fn fill<T: Fill + Wire>(&self, rng: &mut Rng, version: Version) -> T {
        loop {
            let value = T::fill(rng, version);
            if !value.is_null() || self.nullable.contains(version.number) {
                return value;
            }
        }
    }
}

macro_rules! fill_integers {
    ($($int:ty),*) => {$(
        impl Fill for $int {
            fn fill(rng: &mut Rng, _: Version) -> Self {
                rng.next() as $int
            }
        }
    )*};
}

fill_integers!(i8, i16, u16, i32, i64);

impl Fill for bool {
    fn fill(rng: &mut Rng, _: Version) -> Self {
        rng.below(2) == 1
    }
}

impl Fill for Uuid {
    fn fill(rng: &mut Rng, _: Version) -> Self {
        Uuid::from_u64_pair(rng.next(), rng.next())
    }
}

impl Fill for ErrorCode {
    fn fill(rng: &mut Rng, _: Version) -> Self {
        ErrorCode::ALL[rng.below(ErrorCode::ALL.len() as u64) as usize]
    }
}

impl Fill for Str {
    fn fill(rng: &mut Rng, _: Version) -> Self {
        // Some are longer than a compact length of one byte can say.
        let length = if rng.below(8) == 0 { 200 } else { rng.below(12) };
        (0..length)
            .map(|_| ['a', 'é', '-', '7'][rng.below(4) as usize])
            .collect::<String>()
            .into()
    }
}

impl Fill for Bytes {
    fn fill(rng: &mut Rng, _: Version) -> Self {
        let length = if rng.below(8) == 0 { 200 } else { rng.below(12) };
        (0..length).map(|_| rng.next() as u8).collect()
    }
}

impl Fill for BytesMut {
    fn fill(rng: &mut Rng, version: Version) -> Self {
        Bytes::fill(rng, version).into()
    }
}

impl Fill for Records {
    fn fill(rng: &mut Rng, version: Version) -> Self {
        (0..rng.below(4)).map(|_| Bytes::fill(rng, version)).collect()
    }
}

impl<T: Fill> Fill for Option<T> {
    fn fill(rng: &mut Rng, version: Version) -> Self {
        (rng.below(4) > 0).then(|| T::fill(rng, version))
    }
}

impl<T: Fill> Fill for Vec<T> {
    fn fill(rng: &mut Rng, version: Version) -> Self {
        (0..rng.below(4)).map(|_| T::fill(rng, version)).collect()
    }
}

/// Bytes that this thread has asked the allocator for.
pub(crate) fn allocated_bytes() -> usize {
    ALLOCATED.get()
}

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().saturating_add(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
