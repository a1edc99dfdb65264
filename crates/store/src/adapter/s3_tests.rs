//! The S3 adapter against a small server that speaks S3 and fails on order (requirement 11).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_runtime::Policy;
use tailwater_types::{Kind, Outcome};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::open::{Location, Services, StorageOptions, open};
use crate::retry::RetryPolicy;
use crate::storage::ObjectStorage;
use crate::tests::{conformance, services};

const MIB: usize = 1 << 20;

/// What the server does instead of serving a request.
#[derive(Clone, Copy)]
enum Trouble {
    Status(u16),
    /// Serves it, then closes the connection without an answer.
    LoseAnswer,
}

#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// By the kind of request: each takes the first trouble of its queue.
    troubles: BTreeMap<&'static str, VecDeque<Trouble>>,
    /// Kinds of requests, in order.
    log: Vec<&'static str>,
}

struct Request {
    kind: &'static str,
    path: String,
    query: BTreeMap<String, String>,
    range: Option<String>,
    body: Vec<u8>,
}

struct Fixture {
    server: Arc<Mutex<Server>>,
    storage: Arc<dyn ObjectStorage>,
    services: Services,
}

impl Fixture {
    async fn new(deadline: Duration) -> Self {
        let services = services();
        let server = Arc::new(Mutex::new(Server::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (tasks, state) = (services.tasks.clone(), server.clone());
        services.tasks.spawn("s3", Policy::LOGGED_ABORT, async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tasks.spawn("connection", Policy::LOGGED_ABORT, serve(socket, state.clone()));
            }
        });
        let settings = [
            ("endpoint", endpoint.as_str()),
            ("allow_http", "true"),
            ("region", "here"),
            ("access_key_id", "id"),
            ("secret_access_key", "secret"),
        ];
        let backoff = Duration::from_millis(1);
        let options = StorageOptions {
            s3: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            part_bytes: 5 * MIB,
            retry: RetryPolicy {
                first_backoff: backoff,
                max_backoff: backoff,
                deadline,
            },
            ..StorageOptions::default()
        };
        let location = Location::S3 {
            bucket: "bucket".to_owned(),
            prefix: "some/prefix".to_owned(),
        };
        let storage = open(&location, &options, &services).unwrap();
        Self {
            server,
            storage,
            services,
        }
    }

    /// Far more time than any test needs.
    async fn patient() -> Self {
        Self::new(Duration::from_secs(600)).await
    }

    fn trouble(&self, kind: &'static str, troubles: &[Trouble]) {
        self.server.lock().troubles.entry(kind).or_default().extend(troubles);
    }

    fn count(&self, kind: &str) -> usize {
        self.server.lock().log.iter().filter(|&&logged| logged == kind).count()
    }

    fn retries(&self) -> u64 {
        let text = self.services.metrics.text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("tailwater_object_store_retries_total "));
        value.unwrap().parse().unwrap()
    }
}

fn small() -> Vec<Bytes> {
    vec![Bytes::from_static(b"content")]
}

/// Three parts.
fn large() -> Vec<Bytes> {
    (0..11).map(|i| Bytes::from(vec![i; MIB])).collect()
}

#[tokio::test]
async fn s3_conforms() {
    let fixture = Fixture::patient().await;
    conformance(&*fixture.storage).await;
    assert!(fixture.server.lock().objects.contains_key("/bucket/some/prefix/large"));
    assert_eq!(fixture.retries(), 0);
}

/// Statuses that retrying can't mend fail at the first request; 408, 429 and 5xx are tried again.
#[tokio::test]
async fn only_what_may_mend_is_retried() {
    for status in [400, 401, 403, 409, 412, 501] {
        let fixture = Fixture::patient().await;
        fixture.trouble("put", &[Trouble::Status(status)]);
        let put = fixture.storage.put("key", small()).await;
        if status == 501 {
            assert_eq!(put, Ok(()));
            continue;
        }
        let error = put.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Invalid, Outcome::DidNotHappen),
            "{error}"
        );
        assert_eq!(fixture.count("put"), 1);
    }
    for status in [408, 429, 500, 503] {
        let fixture = Fixture::patient().await;
        for kind in ["put", "get", "head", "delete"] {
            fixture.trouble(kind, &[Trouble::Status(status); 2]);
        }
        fixture.storage.put("key", small()).await.unwrap();
        assert_eq!(fixture.storage.get_range("key", 0..7).await.unwrap(), "content");
        assert_eq!(fixture.storage.head("key").await.unwrap(), 7);
        fixture.storage.delete("key").await.unwrap();
        assert_eq!(fixture.retries(), 8);
    }
}

/// A store that stays down is an error of its kind at the deadline.
#[tokio::test]
async fn a_store_that_stays_down_fails_at_the_deadline() {
    let fixture = Fixture::new(Duration::ZERO).await;
    fixture.trouble("put", &[Trouble::Status(500), Trouble::Status(429)]);
    let down = fixture.storage.put("key", small()).await.unwrap_err();
    assert_eq!(
        (down.kind(), down.outcome()),
        (Kind::Unavailable, Outcome::Unknown),
        "{down}"
    );
    let slow_down = fixture.storage.put("key", small()).await.unwrap_err();
    assert_eq!(
        (slow_down.kind(), slow_down.outcome()),
        (Kind::Throttled, Outcome::DidNotHappen),
        "{slow_down}"
    );
    assert_eq!(fixture.count("put"), 2);
}

/// Only the part that failed is sent again.
#[tokio::test]
async fn a_failed_part_is_retried_alone() {
    let fixture = Fixture::patient().await;
    fixture.trouble("part", &[Trouble::Status(503), Trouble::LoseAnswer]);
    fixture.trouble("create", &[Trouble::Status(500)]);
    fixture.storage.put("key", large()).await.unwrap();
    assert_eq!(fixture.count("part"), 5);
    assert_eq!(
        fixture.server.lock().objects["/bucket/some/prefix/key"],
        large().concat()
    );
}

/// An upload that fails, at whichever step, is aborted: no part stays at the store, and nothing is visible.
#[tokio::test]
async fn a_failed_upload_is_aborted() {
    for step in ["create", "part", "complete"] {
        let fixture = Fixture::patient().await;
        fixture.trouble(step, &[Trouble::Status(403)]);
        fixture.trouble("abort", &[Trouble::Status(500)]);
        let error = fixture.storage.put("key", large()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        let server = fixture.server.lock();
        assert!(server.uploads.is_empty() && server.objects.is_empty(), "{step}");
    }
}

/// A completion whose answer was lost is recognised by the object when the repeat finds no upload any more.
#[tokio::test]
async fn a_completion_without_an_answer_is_recognised() {
    let fixture = Fixture::patient().await;
    fixture.trouble("complete", &[Trouble::LoseAnswer]);
    fixture.storage.put("key", large()).await.unwrap();
    assert_eq!((fixture.count("complete"), fixture.count("abort")), (2, 0));
}

async fn serve(socket: TcpStream, server: Arc<Mutex<Server>>) {
    let mut socket = BufReader::new(socket);
    while let Some(request) = read_request(&mut socket).await {
        let (trouble, answer) = {
            let mut server = server.lock();
            server.log.push(request.kind);
            let trouble = server.troubles.get_mut(request.kind).and_then(VecDeque::pop_front);
            match trouble {
                Some(Trouble::Status(status)) => (trouble, (status, String::new(), Vec::new())),
                _ => (trouble, server.answer(&request)),
            }
        };
        if let Some(Trouble::LoseAnswer) = trouble {
            return;
        }
        let (status, headers, body) = answer;
        let length = if request.kind == "head" {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\n{length}{headers}etag: \"x\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        if request.kind != "head" {
            socket.write_all(&body).await.unwrap();
        }
        socket.flush().await.unwrap();
    }
}

async fn read_request(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if socket.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query: BTreeMap<_, _> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (mut length, mut range) = (0, None);
    loop {
        let mut header = String::new();
        socket.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "range" => range = value.strip_prefix("bytes=").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let upload = query.contains_key("uploadId");
    let kind = match method.as_str() {
        "PUT" if upload => "part",
        "PUT" => "put",
        "POST" if upload => "complete",
        "POST" => "create",
        "DELETE" if upload => "abort",
        "DELETE" => "delete",
        "HEAD" => "head",
        _ => "get",
    };
    Some(Request {
        kind,
        path: path.to_owned(),
        query,
        range,
        body,
    })
}

impl Server {
    /// Status, headers, body.
    fn answer(&mut self, request: &Request) -> (u16, String, Vec<u8>) {
        let nothing = |status| (status, String::new(), Vec::new());
        let upload = request.query.get("uploadId").cloned().unwrap_or_default();
        let path = request.path.clone();
        match request.kind {
            "put" => {
                self.objects.insert(path, request.body.clone());
                nothing(200)
            }
            "create" => {
                let id = format!("upload{}", self.log.len());
                self.uploads.insert(id.clone(), BTreeMap::new());
                let body = format!(
                    "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                );
                (200, String::new(), body.into_bytes())
            }
            "part" => {
                let number = request.query["partNumber"].parse().unwrap();
                let Some(parts) = self.uploads.get_mut(&upload) else {
                    return nothing(404);
                };
                parts.insert(number, request.body.clone());
                nothing(200)
            }
            "complete" => {
                let Some(parts) = self.uploads.remove(&upload) else {
                    return nothing(404);
                };
                self.objects.insert(path, parts.into_values().flatten().collect());
                let body = "<CompleteMultipartUploadResult><Location>l</Location><Bucket>bucket</Bucket><Key>k</Key><ETag>x</ETag></CompleteMultipartUploadResult>";
                (200, String::new(), body.as_bytes().to_vec())
            }
            "abort" => nothing(if self.uploads.remove(&upload).is_some() {
                204
            } else {
                404
            }),
            "delete" => {
                self.objects.remove(&path);
                nothing(204)
            }
            "head" => match self.objects.get(&path) {
                Some(object) => (200, format!("content-length: {}\r\n", object.len()), Vec::new()),
                None => nothing(404),
            },
            _ => self.get(&path, request.range.as_deref().unwrap_or("0-")),
        }
    }

    fn get(&self, path: &str, range: &str) -> (u16, String, Vec<u8>) {
        let Some(object) = self.objects.get(path) else {
            return (404, String::new(), Vec::new());
        };
        let size = object.len();
        let (first, last) = range.split_once('-').unwrap();
        let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(start), Ok(last)) => (start, (last + 1).min(size)),
            (Ok(start), Err(_)) => (start, size),
            (Err(_), last) => (size.saturating_sub(last.unwrap()), size),
        };
        if start >= size {
            return (416, String::new(), Vec::new());
        }
        (
            206,
            format!("content-range: bytes {start}-{}/{size}\r\n", end - 1),
            object[start..end].to_vec(),
        )
    }
}
