//! One writer, many readers.

use http_body_util::BodyExt;

use super::*;

const STALL: Duration = Duration::from_secs(10);

fn relay() -> Arc<Relay<&'static str>> {
    Arc::new(Relay::new(Arc::default()))
}

async fn chunk(reader: &mut Reader<&'static str>) -> Option<Result<Bytes, BodyError>> {
    reader
        .frame()
        .await
        .map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
}

#[tokio::test]
async fn a_late_reader_of_a_kept_body_gets_it_from_the_first_byte() {
    let relay = relay();
    let mut early = relay.read().expect("nothing is gone");
    relay.head(Ok(Arc::new("head")));
    relay.write("a".into(), 1, STALL).await.expect("kept");
    assert_eq!(chunk(&mut early).await, Some(Ok("a".into())));
    relay.write("b".into(), 1, STALL).await.expect("kept");
    let late = relay.read().expect("nothing is gone");
    relay.end(Ok(()));
    assert_eq!(late.head(None).await, Ok(Arc::new("head")));
    assert_eq!(late.collect().await.expect("complete").to_bytes(), "ab");
    assert_eq!(relay.chunks().concat(), b"ab");
}

#[tokio::test]
async fn a_kept_body_needs_no_reader() {
    let relay = relay();
    for _ in 0..100 {
        relay.write("x".into(), 1, STALL).await.expect("kept");
    }
    assert_eq!(relay.chunks().len(), 100);
}

#[tokio::test]
async fn a_passing_body_waits_for_its_slowest_reader_within_the_window() {
    let relay = relay();
    let (mut fast, mut slow) = (relay.read().expect("new"), relay.read().expect("new"));
    relay.pass();
    relay
        .write("a".into(), 1, STALL)
        .await
        .expect("two readers");
    let second = relay.write("b".into(), 1, STALL);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(chunk(&mut fast).await, Some(Ok("a".into())));
    assert!(
        futures_util::poll!(&mut second).is_pending(),
        "the slow one still has none"
    );
    assert_eq!(chunk(&mut slow).await, Some(Ok("a".into())));
    assert_eq!(second.await, Ok(()));
    assert!(relay.read().is_none(), "the first chunk is gone");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_is_let_go_and_the_others_get_it_all() {
    let relay = relay();
    let (mut fast, mut stuck) = (relay.read().expect("new"), relay.read().expect("new"));
    relay.pass();
    let writing = async {
        for _ in 0..5 {
            relay
                .write("x".into(), 1, STALL)
                .await
                .expect("one reader stays");
        }
        relay.end(Ok(()));
    };
    let reading = async {
        let mut seen = 0;
        while let Some(chunk) = chunk(&mut fast).await {
            chunk.expect("this one reads");
            seen += 1;
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert_eq!(seen, 5);
    assert_eq!(chunk(&mut stuck).await, Some(Err(BodyError::Lagged)));
}

#[tokio::test]
async fn a_passing_body_without_readers_stops_its_writer() {
    let relay = relay();
    let reader = relay.read();
    relay.pass();
    drop(reader);
    assert_eq!(relay.write("a".into(), 1, STALL).await, Err(NoReaders));
}

#[tokio::test]
async fn who_comes_after_a_body_was_cut_off_does_not_get_it() {
    let relay = relay();
    relay.write("a".into(), 1, STALL).await.expect("kept");
    relay.end(Err(BodyError::Cut("reset".into())));
    assert!(relay.read().is_none());
}

#[tokio::test]
async fn a_cut_body_is_an_error_for_every_reader() {
    let relay = relay();
    let (mut one, mut two) = (relay.read().expect("new"), relay.read().expect("new"));
    relay.write("a".into(), 1, STALL).await.expect("kept");
    relay.end(Err(BodyError::Cut("reset".into())));
    for reader in [&mut one, &mut two] {
        assert_eq!(chunk(reader).await, Some(Ok("a".into())));
        assert_eq!(
            chunk(reader).await,
            Some(Err(BodyError::Cut("reset".into())))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_slow_reader_is_waited_for() {
    let relay = relay();
    let mut slow = relay.read().expect("new");
    relay.pass();
    relay.write("a".into(), 1, STALL).await.expect("a reader");
    let second = relay.write("b".into(), 1, STALL);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    tokio::time::advance(3 * STALL).await;
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(chunk(&mut slow).await, Some(Ok("a".into())));
    assert_eq!(second.await, Ok(()));
    assert_eq!(chunk(&mut slow).await, Some(Ok("b".into())));
}

#[tokio::test]
async fn bytes_are_counted_as_long_as_they_are_held() {
    let held = Arc::new(AtomicU64::new(0));
    let relay = Arc::new(Relay::<&str>::new(Arc::clone(&held)));
    let mut reader = relay.read().expect("new");
    relay.write("abc".into(), 8, STALL).await.expect("kept");
    relay.write("de".into(), 8, STALL).await.expect("kept");
    assert_eq!(held.load(Ordering::Acquire), 5);
    relay.pass();
    assert_eq!(
        held.load(Ordering::Acquire),
        5,
        "the reader has none of it yet"
    );
    let _first = reader.frame().await;
    assert_eq!(held.load(Ordering::Acquire), 2);
    drop((reader, relay));
    assert_eq!(held.load(Ordering::Acquire), 0);
}

#[test]
fn whoever_comes_after_a_failure_is_not_told_of_it_but_asks_again() {
    let relay = Arc::new(Relay::<()>::new(Arc::default()));
    let waiter = relay.read();
    relay.head(Err(Failure::OwnersUnreachable));
    assert!(waiter.is_some() && relay.read().is_none());
    assert!(relay.has_failed());
}
