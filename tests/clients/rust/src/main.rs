//! Drives the rdkafka crate as `protocol.md` says: the lines in and out, and what a command does step by step. How the crate
//! is told stands in `client.rs`.

mod client;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::io::{self, BufRead as _};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, DefaultConsumerContext};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Member, Outcome, REQUEST, Sender, Settings, polled, tell, told};
use crate::wire::{COMMIT_EVERY, Tasks, one_line, say};

/// What is going on: members and transactional producers by their names.
struct Driver {
    settings: Settings,
    members: Mutex<HashMap<String, (Arc<AtomicBool>, JoinHandle<()>)>>,
    senders: Mutex<HashMap<String, Arc<Mutex<Sender>>>>,
}

fn number<T: FromStr>(text: &str) -> Outcome<T> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

fn list(topic: &str, offsets: &BTreeMap<i32, i64>) -> Outcome<TopicPartitionList> {
    let mut places = TopicPartitionList::new();
    for (partition, offset) in offsets {
        places
            .add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .map_err(told)?;
    }
    Ok(places)
}

/// To what the group has committed.
fn go_back(consumer: &BaseConsumer) -> Outcome {
    let places = consumer.assignment().map_err(told)?;
    for place in consumer.committed_offsets(places, REQUEST).map_err(told)?.elements() {
        let offset = match place.offset() {
            Offset::Offset(offset) => Offset::Offset(offset),
            _ => Offset::Beginning,
        };
        consumer
            .seek(place.topic(), place.partition(), offset, REQUEST)
            .map_err(told)?;
    }
    Ok(())
}

fn text<'a>(message: &'a BorrowedMessage<'_>) -> Outcome<&'a str> {
    str::from_utf8(message.payload().unwrap_or_default()).map_err(told)
}

impl Driver {
    fn produce(&self, topic: &str, path: &str) -> Outcome {
        let mut producers = HashMap::new();
        for task in Tasks::open(Path::new(path)).map_err(told)? {
            let task = task.map_err(told)?;
            if !producers.contains_key(task.codec) {
                producers.insert(task.codec, self.settings.producer(task.codec)?);
            }
            producers[task.codec].send(topic, &task)?;
        }
        producers.values().try_for_each(Sender::flush)
    }

    fn read(&self, topic: &str, wanted: &str) -> Outcome {
        let mut ends = BTreeMap::new();
        for (partition, end) in wanted.split(',').filter_map(|pair| pair.split_once(':')) {
            ends.insert(number::<i32>(partition)?, number::<i64>(end)?);
        }
        ends.retain(|_, end| *end > 0);
        let consumer = self
            .settings
            .assigned(topic, ends.keys().copied(), "read_uncommitted")?;
        while !ends.is_empty() {
            for message in polled(&consumer)? {
                tell("-", &message)?;
                if ends.get(&message.partition()) == Some(&(message.offset() + 1)) {
                    ends.remove(&message.partition());
                }
            }
        }
        Ok(())
    }

    fn scan(&self, topic: &str, partitions: &str, last: &str, isolation: &str) -> Outcome {
        let mut left: Vec<i32> = (0..number(partitions)?).collect();
        let consumer = self.settings.assigned(topic, left.iter().copied(), isolation)?;
        while !left.is_empty() {
            for message in polled(&consumer)? {
                let value = text(&message)?;
                say(&format!("V {} {value}", message.partition()));
                if value == last {
                    left.retain(|partition| *partition != message.partition());
                }
            }
        }
        Ok(())
    }

    fn sender(&self, name: &str) -> Outcome<Arc<Mutex<Sender>>> {
        let senders = self.senders.lock().expect("no holder panics");
        senders.get(name).cloned().ok_or_else(|| format!("{name} isn't open"))
    }

    fn chain(&self, words: &[&str]) -> Outcome {
        let [name, source, sink, group, partitions, last] = words[..] else {
            return Err("six words".to_owned());
        };
        let sender = self.sender(name)?;
        let mut sender = sender.lock().expect("no holder panics");
        let consumer = self.settings.member(source, group, DefaultConsumerContext)?;
        let mut left: Vec<i32> = (0..number(partitions)?).collect();
        let mut is_first = true;
        while !left.is_empty() {
            let messages = polled(&consumer)?;
            if messages.is_empty() {
                continue;
            }
            let (mut next, mut done) = (BTreeMap::new(), Vec::new());
            for message in &messages {
                let value = text(message)?;
                sender.write(sink, message.partition(), format!("{value}+").as_bytes())?;
                next.insert(message.partition(), message.offset() + 1);
                if value == last {
                    done.push(message.partition());
                }
            }
            sender.send_offsets(&consumer, &list(source, &next)?)?;
            sender.end(!is_first)?;
            drop(messages);
            if is_first {
                go_back(&consumer)?;
            } else {
                left.retain(|partition| !done.contains(partition));
            }
            is_first = false;
        }
        Ok(())
    }

    fn transact(&self, command: &str, words: &[&str]) -> Outcome {
        match (command, words) {
            ("open", [name, id, timeout_ms]) => {
                let made = self.settings.transactional(id, timeout_ms)?;
                let mut senders = self.senders.lock().expect("no holder panics");
                senders.insert((*name).to_owned(), Arc::new(Mutex::new(made)));
                Ok(())
            }
            ("write", [name, topic, partition, value]) => {
                let sender = self.sender(name)?;
                let mut sender = sender.lock().expect("no holder panics");
                sender.write(topic, number(partition)?, value.as_bytes())
            }
            ("end", [name, how]) => self
                .sender(name)?
                .lock()
                .expect("no holder panics")
                .end(*how == "commit"),
            ("chain", _) => self.chain(words),
            _ => Err(format!("{command} {words:?}")),
        }
    }

    fn join(&self, name: &str, topic: &str, group: &str) {
        let leaving = Arc::new(AtomicBool::new(false));
        let (settings, flag, words) = (
            self.settings.clone(),
            leaving.clone(),
            [name, topic, group].map(str::to_owned),
        );
        let member = thread::spawn(move || {
            if let Err(error) = run_member(&settings, &words, &flag) {
                say(&format!("E member {}: {}", words[0], one_line(&error)));
            }
        });
        self.members
            .lock()
            .expect("no holder panics")
            .insert(name.to_owned(), (leaving, member));
    }

    fn leave(&self, name: &str) -> Outcome {
        let member = self.members.lock().expect("no holder panics").remove(name);
        let (leaving, member) = member.ok_or_else(|| format!("{name} never joined"))?;
        leaving.store(true, Ordering::Relaxed);
        member.join().map_err(|_| format!("{name} panicked"))
    }

    /// Says what the end of a command is.
    fn run(&self, words: &[&str]) {
        let (done, outcome) = match *words {
            ["create", topic, partitions, configs] => (
                "create".to_owned(),
                number(partitions).and_then(|partitions| self.settings.create(topic, partitions, configs)),
            ),
            ["produce", topic, path] => ("produce".to_owned(), self.produce(topic, path)),
            ["read", topic, ends] => ("read".to_owned(), self.read(topic, ends)),
            ["scan", topic, partitions, last, isolation] => {
                ("scan".to_owned(), self.scan(topic, partitions, last, isolation))
            }
            ["join", name, topic, group] => return self.join(name, topic, group),
            ["leave", name] => (format!("leave {name}"), self.leave(name)),
            [command, ref words @ ..] if !words.is_empty() => {
                let outcome = self
                    .transact(command, words)
                    .map_or_else(|error| format!("failed {}", one_line(&error)), |()| "ok".to_owned());
                return say(&format!("T {} {command} {outcome}", words[0]));
            }
            _ => ("?".to_owned(), Err(format!("unknown: {words:?}"))),
        };
        match outcome {
            Ok(()) => say(&format!("ok {done}")),
            Err(error) => say(&format!("E {done}: {}", one_line(&error))),
        }
    }
}

/// A member of the group: polls, commits what it has seen, leaves when told to.
fn run_member(settings: &Settings, [name, topic, group]: &[String; 3], leaving: &AtomicBool) -> Outcome {
    let next = Arc::new(Mutex::new(BTreeMap::new()));
    let consumer = settings.member(
        topic,
        group,
        Member {
            name: name.clone(),
            next: next.clone(),
        },
    )?;
    let mut uncommitted = 0;
    loop {
        let is_leaving = leaving.load(Ordering::Relaxed);
        let messages = polled(&consumer)?;
        for message in &messages {
            tell(name, message)?;
            next.lock()
                .expect("no holder panics")
                .insert(message.partition(), message.offset() + 1);
        }
        uncommitted += messages.len();
        if uncommitted >= COMMIT_EVERY || is_leaving || (uncommitted > 0 && messages.is_empty()) {
            let offsets = next.lock().expect("no holder panics").clone();
            if offsets.is_empty() {
                uncommitted = 0;
            } else {
                match consumer.commit(&list(topic, &offsets)?, CommitMode::Sync) {
                    Ok(()) => {
                        uncommitted = 0;
                        let pairs: Vec<String> = offsets
                            .iter()
                            .map(|(partition, offset)| format!("{partition}:{offset}"))
                            .collect();
                        say(&format!("C {name} {}", pairs.join(",")));
                    }
                    Err(error) => say(&format!("N member {name}: commit refused: {}", one_line(&told(error)))),
                }
            }
        }
        if is_leaving {
            return Ok(());
        }
    }
}

/// Of the crate, as it is locked.
fn version() -> &'static str {
    let locked = include_str!("../Cargo.lock").split_once("name = \"rdkafka\"\nversion = \"");
    locked.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let value = |flag: &str| {
        arguments
            .iter()
            .position(|each| each == flag)
            .and_then(|at| arguments.get(at + 1))
            .cloned()
    };
    let Some(bootstrap) = value("--bootstrap") else {
        eprintln!("usage: rdkafka --bootstrap HOST:PORT [--group-protocol consumer]");
        return ExitCode::FAILURE;
    };
    let group_protocol = value("--group-protocol").unwrap_or_else(|| "classic".to_owned());
    let settings = Settings {
        bootstrap,
        group_protocol,
    };
    let driver = Arc::new(Driver {
        settings,
        members: Mutex::default(),
        senders: Mutex::default(),
    });
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    say(&format!("ready {} (librdkafka {librdkafka})", version()));
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let driver = driver.clone();
        thread::spawn(move || driver.run(&line.split_whitespace().collect::<Vec<_>>()));
    }
    // Without waiting for threads of librdkafka.
    std::process::exit(0)
}
