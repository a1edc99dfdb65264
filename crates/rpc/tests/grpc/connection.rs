//! Peers that aren't there, come back, fall silent or take too long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use tailwater_rpc::Error;
use tailwater_rpc::controller::*;
use tailwater_rpc::grpc::ControllerClient;
use tailwater_runtime::CancellationToken;
use tailwater_types::*;

use crate::support::*;

/// A host that doesn't resolve, or that nobody listens at, is an error that names the address; nothing happened.
#[tokio::test]
async fn an_error_names_the_address() {
    let runtime = runtime();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for address in ["controller.invalid:9000".to_owned(), free.to_string()] {
        let client = client(&address, &runtime);
        for _ in 0..2 {
            let error = client.heartbeat(CALLER, Heartbeat::default()).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.outcome()),
                (Kind::Unavailable, Outcome::DidNotHappen)
            );
            assert!(
                error.to_string().starts_with(&format!("controller at {address}: ")),
                "{error}"
            );
        }
        let error = client.watch(CALLER).await.err().unwrap();
        assert!(error.to_string().contains(&address), "{error}");
    }
    let refused = ControllerClient::new("controller", runtime).err().unwrap();
    assert!(matches!(refused, Error::Invalid(_)), "{refused}");
}

/// A client that was made before its controller, and that has seen it go, reaches it once it is there.
#[tokio::test]
async fn a_client_outlives_its_controller() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    let served = Served::start(&fake, &runtime).await;
    let (address, client) = (served.address, served.client(&runtime));
    let beat = async || client.heartbeat(CALLER, Heartbeat::default()).await;
    assert_eq!(beat().await.unwrap().controller_epoch, ControllerEpoch(4));
    served.stop().await;
    assert_eq!(beat().await.unwrap_err().kind(), Kind::Unavailable);
    let served = Served::start_at(address, &fake, &runtime).await;
    until(async || beat().await.ok()).await;
    served.stop().await;
}

/// Calls that only read go on trying within their deadline; those that change something are left to the caller.
#[tokio::test]
async fn reads_are_made_again() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    let served = Served::start(&fake, &runtime).await;
    let address = served.address;
    served.stop().await;
    let client = ControllerClient::new(&address.to_string(), runtime.clone())
        .unwrap()
        .with_deadline(Duration::from_secs(60));
    let later = async {
        runtime.clock.sleep(Duration::from_millis(300)).await;
        Served::start_at(address, &fake, &runtime).await
    };
    let (journals, served) = tokio::join!(client.list_journals(), later);
    assert_eq!(journals, Ok(Vec::new()));
    served.stop().await;
    let client = client.with_deadline(Duration::from_millis(200));
    let error = client.list_journals().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "the deadline ends the trying: {error}");
}

/// Without an answer in time the outcome is unknown, and the server is told to stop; what a call waits for is on top.
#[tokio::test]
async fn deadlines_end_calls_on_both_sides() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    let served = Served::start(&fake, &runtime).await;
    let client = ControllerClient::new(&served.address.to_string(), runtime.clone()).unwrap();
    let client = client.with_deadline(Duration::from_millis(100));
    let (begun, wait) = (runtime.clock.now(), Duration::from_millis(400));
    let error = client.lease(CALLER, vec![TaskKind::Upload], wait).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Unavailable, Outcome::Unknown),
        "{error}"
    );
    assert!(error.to_string().contains(&served.address.to_string()), "{error}");
    assert!(runtime.clock.now() - begun >= Duration::from_millis(400));
    fake.until_open(0).await;
    assert_eq!(fake.calls.load(Ordering::Relaxed), 1);
    served.stop().await;
}

/// Dropping a call cancels it at the server.
#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    let served = Served::start(&fake, &runtime).await;
    let client = served.client(&runtime);
    let call = client.lease(CALLER, vec![TaskKind::Upload], Duration::from_secs(600));
    tokio::select! {
        biased;
        _ = call => panic!("it has no answer"),
        () = fake.until_open(1) => {}
    }
    fake.until_open(0).await;
    served.stop().await;
}

/// A peer that has vanished without a word is noticed by both sides: the keepalive ends what waits for it.
#[tokio::test]
async fn a_silent_peer_is_noticed() {
    let (runtime, fake) = (runtime(), Fake::new(vec![update(1, None, 1)]));
    let served = Served::start(&fake, &runtime).await;
    let cut = CancellationToken::new();
    let client = client(&wire(served.address, cut.clone(), &runtime).await.to_string(), &runtime);
    let mut watch = client.watch(CALLER).await.unwrap();
    watch.next().await.unwrap().unwrap();
    fake.until_open(1).await;
    cut.cancel();
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Unavailable, Outcome::Unknown),
        "{error}"
    );
    fake.until_open(0).await;
    served.stop().await;
}

/// The end of a server isn't held up by those who watch, nor by calls without an end: they are cut.
#[tokio::test]
async fn a_stop_cuts_what_doesnt_end() {
    let (runtime, fake) = (runtime(), Fake::new(vec![update(1, None, 1)]));
    let served = Served::start(&fake, &runtime).await;
    let client = served.client(&runtime);
    let mut watch = client.watch(CALLER).await.unwrap();
    watch.next().await.unwrap().unwrap();
    let lease = client.lease(CALLER, vec![TaskKind::Upload], Duration::from_secs(600));
    let stopped = async {
        fake.until_open(2).await;
        served.stop().await;
    };
    let (answer, ()) = tokio::join!(lease, stopped);
    assert_eq!(answer.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), Kind::Unavailable);
    fake.until_open(0).await;
}

/// An answer that doesn't fit the question is an error, not taken for something else.
#[tokio::test]
async fn an_ill_formed_answer_is_an_error() {
    let (runtime, fake) = (runtime(), Fake::new(Vec::new()));
    let served = Served::start(&fake, &runtime).await;
    let asked = vec![OpenStream {
        stream: StreamId(1),
        leader_epoch: LeaderEpoch(0),
    }];
    let error = served.client(&runtime).open_streams(CALLER, asked).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Internal, Outcome::Unknown),
        "{error}"
    );
    assert!(
        error.to_string().contains("0 streams are answered, 1 were asked for"),
        "{error}"
    );
    served.stop().await;
}
