use super::*;
use crate::messages::*;
use crate::testing::{Fill, Rng};
use crate::{Message as _, Records, Request};

fn produce_request() -> ProduceRequest {
    let partition = |index| PartitionProduceData {
        index,
        records: Some(BytesMut::from(&[index as u8; 100][..])),
    };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition(0), partition(1)],
        ..Default::default()
    };
    ProduceRequest {
        acks: -1,
        topic_data: vec![topic],
        ..Default::default()
    }
}

/// Length, header v2 with its 16-bit client id and its tags, body.
#[test]
fn a_request_frame_byte_by_byte() {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        ..Default::default()
    };
    let frame = encode_request(7, Some("me".into()), 4, &request).unwrap().into_bytes();
    let header = [0, 12, 0, 4, 0, 0, 0, 7, 0, 2, b'm', b'e', 0];
    let body = [2, b'g', 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(frame[..4], (header.len() as u32 + body.len() as u32).to_be_bytes());
    assert_eq!(frame[4..], [&header[..], &body].concat());

    let mut reader = Reader::new(&frame[4..]);
    let header = RequestHeader::decode(&mut reader).unwrap();
    let expected = RequestHeader {
        api: ApiKey::Heartbeat,
        version: 4,
        correlation_id: 7,
        client_id: Some("me".into()),
    };
    assert_eq!(header, expected);
    assert_eq!(Request::decode(header.api, header.version, reader), Ok(request.into()));
}

/// Header v1 has tags, header v0 has none, and ApiVersions always has header v0.
#[test]
fn response_headers() {
    let heartbeat = |version| {
        encode_response(7, version, &HeartbeatResponse::default())
            .unwrap()
            .into_bytes()
    };
    assert_eq!(heartbeat(3)[..], [0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0]);
    assert_eq!(heartbeat(4)[..], [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    let api_versions = encode_response(7, 3, &ApiVersionsResponse::default())
        .unwrap()
        .into_bytes();
    assert_eq!(api_versions[..], [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 0]);
}

/// Whoever asks for a version that isn't there can still be answered: the header is read.
#[test]
fn an_unknown_version_has_a_header_and_no_message() {
    let frame = [0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0, 1, 2, 3];
    let mut reader = Reader::new(&frame[..]);
    let header = RequestHeader::decode(&mut reader).unwrap();
    assert_eq!(
        (header.api, header.version, header.client_id),
        (ApiKey::ApiVersions, 99, None)
    );
    let error = CodecError::UnsupportedVersion {
        message: "ApiVersionsRequest",
        version: 99,
    };
    assert_eq!(Request::decode(ApiKey::ApiVersions, 99, reader), Err(error));
    let mut reader = Reader::new(&[0x7f, 0xff, 0, 0, 0, 0, 0, 7, 0xff, 0xff][..]);
    assert_eq!(RequestHeader::decode(&mut reader), Err(CodecError::UnknownApi(0x7fff)));
}

/// Records come out as pieces of the frame, each writable while the others are held, and are frozen where they lie.
#[test]
fn produced_records_are_not_copied() {
    let frame = encode_request(1, None, 9, &produce_request()).unwrap().into_bytes();
    let frame = BytesMut::from(&frame[4..]);
    let range = frame.as_ptr_range();
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).unwrap();
    let Ok(Request::Produce(request)) = Request::decode(header.api, header.version, reader) else {
        panic!("a produce request");
    };
    let topic = &request.topic_data[0];
    assert_eq!(topic.name, "t");
    for partition in topic.partition_data.clone() {
        assert_eq!(partition.records.unwrap(), [partition.index as u8; 100][..]);
    }
    for partition in request.topic_data.into_iter().flat_map(|topic| topic.partition_data) {
        let mut records = partition.records.unwrap();
        records[0] = 0xaa;
        let place = records.as_ptr();
        assert!(range.contains(&place));
        let records = records.freeze();
        assert_eq!(records.as_ptr(), place);
        assert_eq!((records[0], records[1]), (0xaa, partition.index as u8));
    }
}

/// A fetch response chains the very memory it was given.
#[test]
fn fetched_records_are_not_copied() {
    let pieces = [
        Bytes::from(vec![1; 300]),
        Bytes::from(vec![2; 5]),
        Bytes::from(vec![3; 70_000]),
    ];
    let partition = |records: Records| PartitionData {
        records: Some(records),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        partitions: vec![
            partition(pieces[..2].iter().cloned().collect()),
            partition(Records::new()),
            partition(pieces[2].clone().into()),
        ],
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![topic],
        ..Default::default()
    };
    for version in FetchResponse::VERSIONS.min..=FetchResponse::VERSIONS.max {
        let frame = encode_response(7, version, &response).unwrap();
        let chained = |piece: &Bytes| frame.chunks().iter().any(|chunk| chunk.as_ptr() == piece.as_ptr());
        assert!(pieces.iter().all(chained));
        let bytes = frame.into_bytes();
        assert_eq!(
            bytes.len(),
            4 + u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize
        );
        assert_eq!(decode_response(bytes.slice(4..), version), Ok((7, response.clone())));
    }
}

/// However it is taken out, a frame gives the same bytes.
#[test]
fn a_frame_is_written_out_in_any_steps() {
    let chunks: Vec<_> = [3usize, 1, 7, 2]
        .iter()
        .map(|&n| Bytes::from(vec![n as u8; n]))
        .collect();
    let whole = chunks.concat();
    for step in 1..=whole.len() {
        let mut frame = Frame::new(chunks.clone());
        let mut out = Vec::new();
        while frame.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = frame.chunks_vectored(&mut slices);
            let visible: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(whole[out.len()..].starts_with(&visible));
            let taken = step.min(visible.len());
            out.extend_from_slice(&visible[..taken]);
            frame.advance(taken);
            assert_eq!(frame.remaining(), whole.len() - out.len());
        }
        assert_eq!(out, whole);
        let mut frame = Frame::new(chunks.clone());
        assert_eq!(frame.copy_to_bytes(step), whole[..step]);
        assert_eq!(frame.into_bytes(), whole[step..]);
    }
}

/// An API that nobody answers is unknown, whether Kafka has one of the number or not.
#[test]
fn an_api_that_is_not_served_is_unknown() {
    for code in [-1, 4, 76, 88, 1000] {
        assert!(ApiKey::ALL.iter().all(|api| api.code() != code));
        assert_eq!(ApiKey::try_from(code), Err(CodecError::UnknownApi(code)));
    }
}

/// What librdkafka 2.16 sends to ask for all topics (its length of four bytes ends in the fields behind it) is understood as
/// Kafka does: all topics, none to be created. Any other request with bytes behind its end is none.
#[test]
fn librdkafkas_question_for_all_topics_is_understood() {
    let body = [0, 0, 0, 0, 1, 0, 0];
    for version in [9, 12, 13] {
        let request = Request::decode(ApiKey::Metadata, version, Reader::new(BytesMut::from(&body[..])));
        let expected = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        assert_eq!(request, Ok(expected.into()), "{version}");
    }
    let longer = Reader::new(BytesMut::from(&[0, 0, 0, 0, 1][..]));
    assert_eq!(
        Request::decode(ApiKey::Metadata, 1, longer),
        Err(CodecError::Trailing(1))
    );
}

/// Every API's requests go through the one entry.
#[test]
fn any_request_is_dispatched_by_its_key() {
    for &api in ApiKey::ALL {
        assert_eq!(ApiKey::try_from(api.code()), Ok(api));
        for version in api.versions().min..=api.versions().max {
            let body = Reader::new(BytesMut::new());
            let error = Request::decode(api, version, body).err();
            // Only a request without a single fixed byte can be empty.
            assert_eq!(
                error.is_none(),
                matches!(api, ApiKey::ApiVersions | ApiKey::ListGroups) && !api.is_flexible(version),
                "{api} {version}"
            );
        }
    }
    let version = FetchRequest::version(12).unwrap();
    let request = FetchRequest::fill(&mut Rng(1), version);
    let body = Reader::new(request.encode(12).unwrap());
    assert_eq!(Request::decode(ApiKey::Fetch, 12, body), Ok(request.into()));
}
