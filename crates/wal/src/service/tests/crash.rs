//! Random work on a device that loses power at any write or flush: what was acknowledged is there, and nothing else
//! happened. Each run follows from its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_format::entry::Entry;
use tailwater_rpc::Error;
use tailwater_rpc::wal::{JournalStatus, entry_cost};
use tailwater_runtime::device::{Fault, FaultyDevice, MemoryDevice, Operation};
use tailwater_runtime::{Clock, Device, Metrics, Random};
use tailwater_types::{ClusterId, DeviceEpoch, DeviceId, JournalId, Lsn};

use super::super::driver::Driver;
use super::super::shared::Shared;
use super::super::start::DeviceLog;
use crate::core::{Attached, Ticket};
use crate::device::{Geometry, LogReader, ReadAhead};
use crate::journal::Source;
use crate::testing::{self, NODE, small_config};

const CAPACITY: usize = (512 << 10) + 8192;
const JOURNALS: u64 = 5;

/// What the outside knows of a journal.
#[derive(Default)]
struct Known {
    attached: Option<Attached>,
    /// Sizes of the records of all entries sent, by LSN; what a crash lost is taken off.
    sent: Vec<usize>,
    acked: u64,
    opened: Option<Ticket>,
    seal: Option<(u64, Ticket)>,
    /// The end that a durable seal had.
    sealed_end: Option<u64>,
    trim: u64,
    trim_ticket: Option<Ticket>,
    trim_acked: u64,
    gone: Option<Ticket>,
}

/// One life of the device.
struct Life {
    device: Arc<FaultyDevice<MemoryDevice>>,
    shared: Arc<Shared>,
    driver: Driver,
    reader: LogReader,
    id: DeviceId,
}

struct World {
    random: Random,
    life: Life,
    epoch: u64,
    known: BTreeMap<u64, Known>,
    /// What was answered as gone, and journals that never were here and are asked to be so.
    gone: BTreeSet<u64>,
    never_here: Vec<(u64, Ticket)>,
    next_journal: u64,
    laps: u64,
    crashes: bool,
}

fn begin(memory: MemoryDevice, epoch: u64) -> Result<Life, crate::Error> {
    let device = Arc::new(FaultyDevice::new(memory));
    let log = DeviceLog {
        device: device.clone(),
        name: "memory".to_owned(),
        config: small_config(CAPACITY as u64),
        max_write_bytes: 64 << 10,
    };
    let (superblocks, found) = log.open(NODE, DeviceId::from_bytes([9; 16]))?;
    let id = found.superblock.device;
    let superblocks = log.grant(superblocks, ClusterId::from_bytes([1; 16]), DeviceEpoch(epoch))?;
    let (shared, driver) = log.recover(superblocks, &found, Clock::system(), &Metrics::new())?;
    let reader = LogReader::new(device.clone(), Geometry::of(CAPACITY as u64), &Metrics::new());
    Ok(Life {
        reader,
        device,
        shared,
        driver,
        id,
    })
}

impl Life {
    fn statuses(&self) -> BTreeMap<u64, JournalStatus> {
        let statuses = self.shared.core.lock().statuses(Clock::system().now());
        statuses.into_iter().map(|status| (status.journal.0, status)).collect()
    }

    /// As the port reads it, from memory or from the device.
    fn read(&self, journal: u64, lsn: u64) -> Entry {
        let source = self
            .shared
            .core
            .lock()
            .source(JournalId(journal), Lsn(lsn))
            .unwrap()
            .unwrap();
        match source {
            Source::Memory(entry) => Entry::clone(&entry),
            Source::Device(extents) => {
                let bytes = self.reader.read(&extents, &mut ReadAhead::default(), 0).unwrap();
                Entry::decode(&bytes).unwrap()
            }
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let life = begin(MemoryDevice::new(CAPACITY), 1).unwrap();
        let (known, random) = (BTreeMap::new(), Random::seeded(seed));
        Self {
            random,
            life,
            epoch: 1,
            known,
            gone: BTreeSet::new(),
            never_here: Vec::new(),
            next_journal: 1,
            laps: 0,
            crashes: true,
        }
    }

    fn step(&mut self) {
        match self.random.range(0..100) {
            0..8 => self.open(),
            8..59 => self.append(),
            59..60 => self.forget(),
            60..63 => self.seal(),
            63..75 => self.trim(),
            75..97 => self.run(),
            _ => self.crash_soon(),
        }
    }

    fn pick(&self) -> Option<u64> {
        let live: Vec<_> = self.known.keys().copied().collect();
        (!live.is_empty()).then(|| live[self.random.range(0..live.len() as u64) as usize])
    }

    fn open(&mut self) {
        if self.known.len() as u64 >= JOURNALS {
            return;
        }
        let journal = self.next_journal;
        self.next_journal += 1;
        let opened = self.life.shared.core.lock().open(&testing::open(journal, self.life.id));
        let Ok(ticket) = opened else { return };
        self.known.insert(
            journal,
            Known {
                opened: Some(ticket),
                ..Known::default()
            },
        );
        self.run();
        self.attach(journal);
    }

    fn attach(&mut self, journal: u64) {
        let Some(known) = self.known.get_mut(&journal) else {
            return;
        };
        if known.seal.is_none() && known.sealed_end.is_none() {
            known.attached = self
                .life
                .shared
                .core
                .lock()
                .attach(&testing::open(journal, self.life.id))
                .ok();
        }
    }

    fn append(&mut self) {
        let Some(journal) = self.pick() else { return };
        for _ in 0..self.random.range(1..6) {
            let bytes = match self.random.range(0..10) {
                0 => self.random.range(60_000..150_000),
                1..4 => self.random.range(3500..4500),
                _ => self.random.range(1..20_000),
            };
            let Some(known) = self.known.get_mut(&journal) else {
                return;
            };
            let Some(attached) = &known.attached else { return };
            let entry = testing::entry(journal, known.sent.len() as u64, bytes as usize);
            let has_credit = attached.state.borrow().credit_limit >= entry_cost(entry.encoded_bytes());
            let sent = self
                .life
                .shared
                .core
                .lock()
                .append(JournalId(journal), attached.id, entry, Lsn(0));
            match sent {
                Ok(true) => known.sent.push(bytes as usize),
                Err(Error::Throttled(_)) => {}
                Err(Error::Invalid(_)) => assert!(!has_credit || bytes > 60_000),
                other => panic!("{other:?}"),
            }
        }
    }

    fn seal(&mut self) {
        let Some(journal) = self.pick() else { return };
        let epoch = self.random.range(1..4);
        let sealed = self
            .life
            .shared
            .core
            .lock()
            .seal(&testing::seal(journal, self.life.id, epoch));
        let Some(known) = self.known.get_mut(&journal) else {
            return;
        };
        match sealed {
            Ok((ticket, _)) => (known.seal, known.attached) = (Some((epoch, ticket)), None),
            Err(Error::ControllerFenced { .. }) => assert!(known.seal.is_some_and(|(seen, _)| seen > epoch)),
            Err(Error::Throttled(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn trim(&mut self) {
        let Some(journal) = self.pick() else { return };
        let durable = self.life.statuses().get(&journal).map_or(0, |status| status.durable.0);
        let known = self.known.get_mut(&journal).unwrap();
        // The controller's trims never go beyond what was acknowledged.
        let gone = known.sealed_end.is_some() && self.random.chance(2);
        let to = if gone {
            durable
        } else {
            self.random.range(known.trim..durable.max(known.trim) + 1)
        };
        let trimmed = self
            .life
            .shared
            .core
            .lock()
            .trim(&testing::trim(journal, self.life.id, to, gone));
        match trimmed {
            Ok(ticket) => {
                let ticket = ticket.expect("the journal is there");
                (known.trim, known.trim_ticket) = (known.trim.max(to), Some(ticket));
                if gone {
                    known.gone.get_or_insert(ticket);
                }
            }
            Err(Error::Throttled(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// A journal is gone that never came here.
    fn forget(&mut self) {
        let journal = self.next_journal;
        self.next_journal += 1;
        let request = testing::trim(journal, self.life.id, 0, true);
        match self.life.shared.core.lock().trim(&request) {
            Ok(ticket) => self.never_here.push((journal, ticket.expect("something is written"))),
            Err(Error::Throttled(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// Openings of what is gone come too late, and leave nothing; its seal needs no record.
    fn check_gone(&self) {
        let mut core = self.life.shared.core.lock();
        let journals = core.journals();
        for &id in &self.gone {
            let journal = JournalId(id);
            let fenced = Err(Error::JournalFenced { journal });
            assert_eq!(core.open(&testing::open(id, self.life.id)), fenced);
            let (_, sealed) = core.seal(&testing::seal(id, self.life.id, 1)).unwrap();
            assert_eq!(sealed.map(|sealed| sealed.end), Some(Lsn(0)));
        }
        assert_eq!(core.journals(), journals);
    }

    /// Groups until the queue is empty; a crash if the device fails meanwhile.
    fn run(&mut self) {
        loop {
            let done = self.life.driver.run_once();
            self.learn();
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return self.crash(),
            }
        }
    }

    /// What has been answered by now.
    fn learn(&mut self) {
        let completed = self.life.shared.progress.borrow().completed;
        let statuses = self.life.statuses();
        self.known.retain(|journal, known| {
            let is_gone = known.gone.is_some_and(|ticket| ticket <= completed);
            if is_gone {
                self.gone.insert(*journal);
            }
            !is_gone
        });
        self.never_here.retain(|(journal, ticket)| {
            if *ticket <= completed {
                self.gone.insert(*journal);
            }
            *ticket > completed
        });
        for (journal, known) in &mut self.known {
            let Some(status) = statuses.get(journal) else { continue };
            if let Some(attached) = &known.attached {
                known.acked = known.acked.max(attached.state.borrow().durable.0);
            }
            if let Some((_, ticket)) = known.seal
                && ticket <= completed
            {
                let end = status.durable.0;
                assert_eq!(
                    *known.sealed_end.get_or_insert(end),
                    end,
                    "journal {journal} grew behind its seal"
                );
                known.acked = end;
            }
            if known.trim_ticket.is_some_and(|ticket| ticket <= completed) {
                known.trim_acked = known.trim;
            }
            if known.opened.is_some_and(|ticket| ticket <= completed) {
                known.opened = None;
            }
        }
        let space = *self.life.shared.core.lock().space();
        self.laps = self.laps.max(space.head() / space.ring_bytes());
        assert!(space.used() <= space.ring_bytes());
    }

    fn crash_soon(&mut self) {
        if !self.crashes {
            return;
        }
        let operation = if self.random.chance(2) {
            Operation::Write
        } else {
            Operation::Flush
        };
        let fault = if self.random.chance(2) {
            Fault::Before(libc_eio())
        } else {
            Fault::After(libc_eio())
        };
        self.life.device.inject(operation, self.random.range(0..6), fault);
    }

    fn crash(&mut self) {
        let memory = self.life.device.inner().power_cut_at_random(&self.random);
        self.epoch += 1;
        self.life = begin(memory, self.epoch).unwrap_or_else(|error| panic!("honest crash: {error}"));
        // Sometimes the power goes again at once, before anything new was written.
        if self.random.chance(4) {
            let memory = self.life.device.inner().power_cut_at_random(&self.random);
            self.epoch += 1;
            self.life = begin(memory, self.epoch).unwrap();
        }
        self.check();
        let journals: Vec<_> = self.known.keys().copied().collect();
        for journal in journals {
            self.attach(journal);
        }
    }

    /// Compares what is there after a crash with what was answered before.
    fn check(&mut self) {
        let statuses = self.life.statuses();
        for journal in statuses.keys() {
            assert!(self.known.contains_key(journal), "journal {journal} is gone, and back");
        }
        self.never_here.clear();
        let life = &self.life;
        self.known.retain(|journal, known| {
            let Some(status) = statuses.get(journal) else {
                assert!(
                    known.opened.is_some() || known.gone.is_some(),
                    "journal {journal} is lost"
                );
                if known.opened.is_none() {
                    self.gone.insert(*journal);
                }
                return false;
            };
            let (trim, durable) = (status.trim.0, status.durable.0);
            assert!(
                durable >= known.acked,
                "journal {journal}: {durable} of {} acked",
                known.acked
            );
            assert!(
                durable <= known.sent.len() as u64,
                "journal {journal}: more than was sent"
            );
            assert!(
                (known.trim_acked..=known.trim).contains(&trim),
                "journal {journal}: trim {trim}, acked {}, asked {}",
                known.trim_acked,
                known.trim
            );
            for lsn in trim..durable {
                let expected = testing::entry(*journal, lsn, known.sent[lsn as usize]);
                assert_eq!(life.read(*journal, lsn).chunks().concat(), expected.chunks().concat());
            }
            known.sent.truncate(durable as usize);
            known.acked = durable;
            if let Some(end) = known.sealed_end {
                assert!(
                    status.sealed && durable == end,
                    "journal {journal}: sealed at {end}, now {durable}"
                );
            }
            if status.sealed {
                assert!(known.seal.is_some());
                (known.sealed_end, known.attached) = (Some(durable), None);
            } else {
                known.seal = None;
            }
            (known.trim, known.trim_acked, known.trim_ticket) = (trim, trim, None);
            (known.gone, known.opened) = (None, None);
            if let Some((_, ticket)) = &mut known.seal {
                *ticket = Ticket::NONE;
            }
            true
        });
        self.check_gone();
    }

    /// Everything can be trimmed away, and then the ring is free again.
    fn drain(&mut self) {
        // The new life has no faults set.
        self.crash();
        for (journal, status) in self.life.statuses() {
            let request = testing::trim(journal, self.life.id, status.durable.0, false);
            self.life.shared.core.lock().trim(&request).unwrap();
            self.run();
        }
        let space = *self.life.shared.core.lock().space();
        assert!(space.used() < space.ring_bytes() / 8, "{space:?}");
        self.check_gone();
    }
}

fn libc_eio() -> i32 {
    5
}

/// Whatever write or flush of its end is cut off: a journal that is gone, or was asked to be, is never opened again, nor
/// after the ring went round and nothing of it is left but the superblock.
#[test]
fn what_is_gone_is_never_opened_again() {
    let (mut answered, mut cut) = (0, 0);
    for operation in [Operation::Write, Operation::Flush] {
        for (nth, before, kept) in (0..6).flat_map(|nth| [(nth, true, false), (nth, false, true), (nth, false, false)])
        {
            let mut world = World::new(1);
            world.crashes = false;
            world.open();
            assert!(world.known.contains_key(&1));
            let core = |life: &Life, gone: bool| {
                let mut core = life.shared.core.lock();
                if gone {
                    core.trim(&testing::trim(1, life.id, 0, true))
                        .unwrap()
                        .expect("it is there")
                } else {
                    core.seal(&testing::seal(1, life.id, 1)).unwrap().0
                }
            };
            core(&world.life, false);
            while world.life.driver.run_once().unwrap() {}
            let fault = if before {
                Fault::Before(libc_eio())
            } else {
                Fault::After(libc_eio())
            };
            world.life.device.inject(operation, nth, fault);
            let ticket = core(&world.life, true);
            while matches!(world.life.driver.run_once(), Ok(true)) {}
            answered += u32::from(world.life.shared.progress.borrow().completed >= ticket);
            let memory = world.life.device.inner().power_cut(4096, |_, _| kept);
            world.life = begin(memory, 2).unwrap();
            let late = || Err(Error::JournalFenced { journal: JournalId(1) });
            let open = |life: &Life| life.shared.core.lock().open(&testing::open(1, life.id));
            assert_eq!(open(&world.life), late(), "{operation:?} {nth}");
            if !world.life.statuses().is_empty() {
                cut += 1;
                core(&world.life, true);
                while world.life.driver.run_once().unwrap() {}
            }
            (world.known, world.next_journal, world.epoch) = (BTreeMap::new(), 2, 2);
            world.open();
            while world.laps < 2 {
                world.append();
                world.run();
                let end = world.life.statuses()[&2].durable.0;
                let trim = testing::trim(2, world.life.id, end, false);
                world.life.shared.core.lock().trim(&trim).unwrap();
                world.run();
            }
            for epoch in 3..5 {
                world.life = begin(world.life.device.inner().power_cut(4096, |_, _| true), epoch).unwrap();
                assert_eq!(open(&world.life), late(), "{operation:?} {nth}, {epoch}");
            }
        }
    }
    assert!(answered > 6 && cut > 2, "{answered} answered, {cut} cut off");
}

fn seeds() -> std::ops::Range<u64> {
    0..500
}

/// Any crash: everything acknowledged is there with its bytes, nothing sealed grows, nothing gone comes back, trims hold.
#[test]
fn nothing_acknowledged_is_lost() {
    let (mut laps, mut crashes) = (0, 0);
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..200 {
                world.step();
            }
            world.drain();
            (world.laps, world.epoch - 1)
        });
        let (lapped, crashed) = outcome.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        laps = laps.max(lapped);
        crashes += crashed;
    }
    assert!(
        laps >= 3 && crashes > 1000,
        "{laps} laps, {crashes} crashes: the test doesn't reach what it is for"
    );
}

/// Damage of any byte below what is known to be flushed is an error, or hit no byte that means anything; the log is
/// never just shorter.
#[test]
fn damage_is_never_a_short_log() {
    let mut refused = 0;
    for seed in 0..300 {
        let mut world = World {
            crashes: false,
            ..World::new(seed)
        };
        for _ in 0..60 {
            world.step();
        }
        world.run();
        world.life.driver.settle(true).unwrap();
        let space = *world.life.shared.core.lock().space();
        if space.used() == 0 {
            continue;
        }
        let memory = world.life.device.inner();
        let position = space.trim() + world.random.range(0..space.used());
        let byte = Geometry::of(CAPACITY as u64).byte(position);
        let mut page = tailwater_runtime::AlignedBuf::zeroed(4096);
        memory.read_at(&mut page, byte - byte % 4096).unwrap();
        memory.damage(byte as usize, &[page[byte as usize % 4096] ^ 0x20]);
        let memory = world.life.device.inner().clone();
        world.epoch += 1;
        match begin(memory, world.epoch) {
            Ok(life) => {
                world.life = life;
                world.check();
            }
            Err(error) => {
                assert!(matches!(error, crate::Error::Damaged { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// A lost superblock never makes the log shorter: either the other slot still says enough, or the start is refused, and
/// refused again.
#[test]
fn a_lost_superblock_is_never_a_short_log() {
    let (mut refused, mut recovered) = (0, 0);
    for seed in 0..300 {
        let mut world = World {
            crashes: false,
            ..World::new(seed)
        };
        for _ in 0..world.random.range(1..150) {
            world.step();
        }
        world.run();
        let slot = world.random.range(0..2) * 4096;
        world.life.device.inner().damage(slot as usize + 20, b"damaged");
        let memory = world.life.device.inner().clone();
        world.epoch += 1;
        match begin(memory.clone(), world.epoch) {
            Ok(life) => {
                world.life = life;
                world.check();
                recovered += 1;
            }
            Err(first) => {
                let again = begin(memory, world.epoch).err().map(|error| error.to_string());
                assert_eq!(again, Some(first.to_string()), "seed {seed}");
                refused += 1;
            }
        }
    }
    assert!(
        refused > 10 && recovered > 30,
        "{refused} refused, {recovered} recovered"
    );
}
