use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tailwater_kafka::messages::{
    ApiVersion, ListGroupsRequest, ListGroupsResponse, MetadataRequest, MetadataResponse, OffsetDeleteRequest,
};
use tailwater_kafka::{ErrorCode, ResponseMessage, encode_response};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A broker that takes one connection and answers each request on it with the next of `answers`; then it closes it, or,
/// with `hangs`, keeps it until the other side goes.
fn broker(answers: Vec<Vec<u8>>, hangs: bool) -> (SocketAddr, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    #[allow(clippy::disallowed_methods, reason = "a test's own peer")]
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut requests = Vec::new();
        for answer in answers {
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                return requests;
            }
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            requests.push(request);
            stream.write_all(&answer).unwrap();
        }
        if hangs {
            while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
        }
        requests
    });
    (address, thread)
}

fn answer<R: ResponseMessage>(id: i32, version: i16, response: &R) -> Vec<u8> {
    encode_response(id, version, response).unwrap().into_bytes().to_vec()
}

fn greeting(apis: &[(i16, i16, i16)]) -> Vec<u8> {
    let api = |&(api_key, min_version, max_version): &(i16, i16, i16)| ApiVersion {
        api_key,
        min_version,
        max_version,
    };
    let greeting = ApiVersionsResponse {
        api_keys: apis.iter().map(api).collect(),
        ..Default::default()
    };
    answer(1, API_VERSIONS_VERSION, &greeting)
}

fn open(address: SocketAddr) -> Result<Connection, Error> {
    let clock = Clock::system();
    let deadline = clock.now() + LONG;
    Connection::open(&address.to_string(), &clock, deadline)
}

/// The newest version is spoken that both have and the caller can use; without one nothing is sent.
#[test]
fn the_newest_common_version_is_spoken() {
    let metadata = MetadataResponse {
        controller_id: 7,
        ..Default::default()
    };
    let (address, peer) = broker(vec![greeting(&[(3, 0, 9), (16, 0, 1)]), answer(2, 8, &metadata)], false);
    let mut connection = open(address).unwrap();
    let deadline = connection.clock.now() + LONG;
    let up_to_8 = Versions { min: 4, max: 8 };
    let found = connection.call(up_to_8, &MetadataRequest::default(), deadline).unwrap();
    assert_eq!(found.controller_id, 7);

    let from_4 = Versions { min: 4, max: i16::MAX };
    let error = connection
        .call(from_4, &ListGroupsRequest::default(), deadline)
        .unwrap_err();
    assert!(error.to_string().contains("it has 0 to 1, 4 to 5 is needed"), "{error}");
    let error = connection
        .call(Versions::ALL, &OffsetDeleteRequest::default(), deadline)
        .unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert_eq!(peer.join().unwrap().len(), 2);
}

/// Somebody else's port, a refusal, silence, an end in the middle: each is a sentence with the address.
#[test]
fn what_goes_wrong_is_said_with_the_address() {
    let (address, _) = broker(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], false);
    let error = open(address).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot connect to {address}: it doesn't answer as a Kafka")),
        "{error}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(
        open(nobody).unwrap_err().to_string(),
        format!("cannot connect to {nobody}: connection refused")
    );

    let (address, _) = broker(vec![greeting(&[(16, 0, 0)])], true);
    let mut connection = open(address).unwrap();
    let soon = connection.clock.now() + Duration::from_millis(50);
    let error = connection
        .call(Versions::ALL, &ListGroupsRequest::default(), soon)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{address} didn't answer ListGroups (16): timed out (--timeout)")
    );
    assert_eq!(error.outcome(), tailwater_types::Outcome::Unknown);

    let refused = ListGroupsResponse {
        error_code: ErrorCode::CoordinatorNotAvailable,
        ..Default::default()
    };
    let (address, _) = broker(
        vec![greeting(&[(16, 0, 0)]), answer(2, 0, &refused)[..6].to_vec()],
        false,
    );
    let mut connection = open(address).unwrap();
    let deadline = connection.clock.now() + LONG;
    let error = connection
        .call(Versions::ALL, &ListGroupsRequest::default(), deadline)
        .unwrap_err();
    assert!(error.to_string().ends_with("it closed the connection"), "{error}");
}
