//! Webhooks on real sockets: what is let in, what is refused, and that nothing that was accepted is lost or comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::stop::StopHandle;
use plba_http::Limits;
use plba_http::webhook::{Hook, SigningSecret, WebhookSettings, WebhookSource};
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::intake::Intake;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{Completion, ConsumerId, Delivery, Incarnation, TaskQueue};
use plba_tasks::source::{SourceError, TaskSource};
use plba_tasks::task::NewTask;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Answer, rest, soon};

const NOW: i64 = 1_700_000_000;
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDMMn2FYpvqSE=";

/// It is always [`NOW`].
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A source that listens, and the queue behind it.
struct Shop {
    queue: Arc<InMemoryTaskQueue>,
    source: Arc<WebhookSource>,
    address: SocketAddr,
    stop: StopHandle,
    running: JoinHandle<Result<(), SourceError>>,
}

fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(7), "shop")
}

fn source(
    capacity: usize,
    allow_loss: bool,
    change: impl FnOnce(&mut Hook),
) -> (Arc<InMemoryTaskQueue>, WebhookSource, Intake) {
    let settings = MemorySettings {
        capacity,
        task_bytes: 4096,
        ..MemorySettings::default()
    };
    let queue = Arc::new(InMemoryTaskQueue::new(settings, Arc::new(Still)).unwrap());
    let secrets = [OLD, NEW].map(|secret| SigningSecret::parse(secret).unwrap()).to_vec();
    let mut hook = Hook::new(
        "orders",
        "/shop/orders",
        secrets,
        NewTask::new("orders", "order.received", ""),
    );
    hook.body_bytes = 1024;
    change(&mut hook);
    let settings = WebhookSettings {
        listen: "127.0.0.1:0".into(),
        publish_within: Duration::from_millis(200),
        allow_loss,
        limits: Limits {
            body: Duration::from_millis(300),
            ..WebhookSettings::default().limits
        },
    };
    let source = WebhookSource::new(settings, vec![hook], Arc::new(Still)).unwrap();
    let ledger = Arc::new(FileLedger::in_memory(&FileLedgerSettings::default()));
    let intake = Intake::new("shop", Arc::clone(&queue) as Arc<dyn TaskQueue>, ledger, consumer());
    (queue, source, intake)
}

async fn open(capacity: usize, change: impl FnOnce(&mut Hook)) -> Shop {
    let (queue, source, intake) = source(capacity, true, change);
    let (source, stop) = (Arc::new(source), StopHandle::new());
    let (at_work, signal) = (Arc::clone(&source), stop.signal());
    let running = tokio::spawn(async move { at_work.run(intake, signal).await });
    let address = soon(source.address()).await.parse().unwrap();
    Shop {
        queue,
        source,
        address,
        stop,
        running,
    }
}

/// A request as its sender makes it.
struct Letter {
    line: &'static str,
    headers: BTreeMap<&'static str, String>,
    body: Vec<u8>,
}

impl Letter {
    fn signed(id: &str, body: &[u8]) -> Self {
        Self::signed_by(OLD, id, NOW, body)
    }

    fn signed_by(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Self {
        let signature = SigningSecret::parse(secret).unwrap().sign(id, timestamp, body);
        let headers = [
            ("host", "localhost".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("content-length", body.len().to_string()),
            ("connection", "close".to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ];
        Self {
            line: "POST /shop/orders HTTP/1.1",
            headers: headers.into(),
            body: body.to_vec(),
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    fn head(&self) -> Vec<u8> {
        let lines: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!("{}\r\n{lines}\r\n", self.line).into_bytes()
    }
}

impl Shop {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, letter: &Letter) -> Answer {
        let mut stream = self.connect().await;
        // A refused request may be answered before it was read to its end.
        let _ = stream.write_all(&[letter.head(), letter.body.clone()].concat()).await;
        Answer::read(&rest(&mut stream).await)
    }

    async fn counts(&self) -> (u64, u64) {
        let stats = self.queue.stats().await.unwrap();
        stats.first().map_or((0, 0), |queue| (queue.ready, queue.published))
    }

    async fn take(&self, max: usize) -> Vec<Delivery> {
        soon(self.queue.consume(&"orders".into(), &consumer(), max))
            .await
            .unwrap()
    }

    async fn ack(&self, deliveries: Vec<Delivery>) {
        let completion = |delivery: Delivery| Completion {
            token: delivery.token,
            then: Vec::new(),
        };
        let ended = self
            .queue
            .ack(deliveries.into_iter().map(completion).collect())
            .await
            .unwrap();
        assert!(ended.into_iter().all(|ended| ended.is_ok()));
    }
}

#[tokio::test]
async fn failure_49_a_signed_request_is_a_task_once_answered_and_no_second_one_even_after_it_was_done() {
    let shop = open(100, |_| ()).await;
    let letter = Letter::signed("msg_1", b"{\"tea\": 2}");
    let first = shop.send(&letter).await;
    assert_eq!(
        (first.status, first.json()["task"].as_str()),
        (200, Some("shop/orders/msg_1"))
    );
    assert_eq!(shop.counts().await, (1, 1), "the answer came after the task");
    assert_eq!(shop.send(&letter).await.status, 200, "while it waits");
    let taken = shop.take(10).await;
    let task = &taken[0].task;
    assert_eq!(
        (&task.payload[..], &*task.kind),
        (&b"{\"tea\": 2}"[..], "order.received")
    );
    for (header, value) in [
        ("webhook", "orders"),
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1700000000"),
    ] {
        assert_eq!(task.headers[header], value);
    }
    assert!(task.headers["producer"].starts_with("shop ("), "{:?}", task.headers);
    assert_eq!(shop.send(&letter).await.status, 200, "while it is in hand");
    shop.ack(taken).await;
    // The sender has not heard of it, signs once more with a new time, and even with the other secret.
    let again = Letter::signed_by(NEW, "msg_1", NOW + 60, b"{\"tea\": 2}");
    assert_eq!(shop.send(&again).await.status, 200, "after it was done");
    assert_eq!(shop.counts().await, (0, 1), "one task for four requests");
}

#[tokio::test]
async fn failure_49_what_is_old_unsigned_large_slow_packed_or_no_post_becomes_no_task() {
    let shop = open(100, |_| ()).await;
    let good = || Letter::signed("msg_1", b"{}");
    let mut get = good();
    get.line = "GET /shop/orders HTTP/1.1";
    let mut elsewhere = good();
    elsewhere.line = "POST /shop/orders/ HTTP/1.1";
    let mut changed = good();
    changed.body = b"[]".to_vec();
    let foreign = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (letter, status, what) in [
        (
            Letter::signed_by(OLD, "msg_1", NOW - 600, b"{}"),
            401,
            "ten minutes old",
        ),
        (
            Letter::signed_by(OLD, "msg_1", NOW + 600, b"{}"),
            401,
            "ten minutes early",
        ),
        (Letter::signed_by(foreign, "msg_1", NOW, b"{}"), 401, "another secret"),
        (good().with("webhook-signature", ""), 401, "no signature"),
        (good().with("webhook-id", "msg_2"), 401, "another id"),
        (changed, 401, "another body"),
        (Letter::signed("msg_1", &[b' '; 1025]), 413, "one byte over the limit"),
        (
            good().with("content-length", "4294967296"),
            413,
            "a length that nobody believes",
        ),
        (good().with("content-encoding", "gzip"), 415, "a gzip bomb, perhaps"),
        (good().with("content-type", "text/plain"), 415, "another type"),
        (get, 405, "no POST"),
        (elsewhere, 404, "another path"),
    ] {
        let answer = shop.send(&letter).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    let mut stream = shop.connect().await;
    stream.write_all(&Letter::signed("msg_1", b"{ }").head()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    assert_eq!(
        Answer::read(&rest(&mut stream).await).status,
        408,
        "a body that does not come"
    );
    assert_eq!(shop.counts().await.1, 0);
    assert_eq!(
        shop.send(&Letter::signed("msg_1", &[b' '; 1024])).await.status,
        200,
        "just within the limit"
    );
}

#[tokio::test]
async fn a_chunked_body_has_the_same_limit() {
    let shop = open(100, |_| ()).await;
    let mut letter = Letter::signed("msg_1", &[b' '; 1025]).with("transfer-encoding", "chunked");
    letter.headers.remove("content-length");
    letter.body = [b"401\r\n".as_slice(), &[b' '; 1025], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(shop.send(&letter).await.status, 413);
    letter = Letter::signed("msg_1", &[b' '; 1024]).with("transfer-encoding", "chunked");
    letter.headers.remove("content-length");
    letter.body = [b"400\r\n".as_slice(), &[b' '; 1024], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(shop.send(&letter).await.status, 200);
}

#[tokio::test]
async fn failure_50_of_a_burst_of_ten_times_the_room_what_was_accepted_is_there_and_the_rest_may_come_later() {
    const ROOM: usize = 8;
    let shop = open(ROOM, |hook| hook.concurrency = 4).await;
    let mut left: BTreeSet<String> = (0..10 * ROOM).map(|number| format!("msg_{number:02}")).collect();
    let mut there = BTreeSet::new();
    for round in 0.. {
        assert!(round < 100, "{} never came through", left.len());
        let letters: Vec<_> = left.iter().map(|id| Letter::signed(id, id.as_bytes())).collect();
        let answers = futures_util::future::join_all(letters.iter().map(|letter| shop.send(letter))).await;
        let (mut accepted, mut later) = (BTreeSet::new(), 0);
        for (id, answer) in left.iter().zip(answers) {
            match answer.status {
                200 => drop(accepted.insert(id.clone())),
                503 => {
                    assert!(answer.head.contains("retry-after: "), "{answer:?}");
                    later += 1;
                }
                _ => panic!("{answer:?}"),
            }
        }
        assert!(round > 0 || later >= 9 * ROOM, "{later}");
        left.retain(|id| !accepted.contains(id));
        if accepted.is_empty() {
            continue;
        }
        // A publish that was given up in time left nothing; what was accepted is there, once.
        let taken = shop.take(ROOM * 2).await;
        let found: BTreeSet<_> = taken
            .iter()
            .map(|delivery| delivery.task.headers["webhook-id"].clone())
            .collect();
        assert_eq!((found.len(), &found), (taken.len(), &accepted));
        there.extend(found);
        shop.ack(taken).await;
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(there.len(), 10 * ROOM);
    assert_eq!(shop.counts().await, (0, 10 * ROOM as u64));
    assert_eq!(shop.source.status().health, Health::Ok, "the last one was accepted");
}

#[tokio::test]
async fn failure_49_of_two_requests_with_one_id_at_once_the_second_is_to_come_again() {
    let shop = open(1, |_| ()).await;
    assert_eq!(shop.send(&Letter::signed("msg_0", b"{}")).await.status, 200);
    // There is no room, so the first one waits a while before it is given up.
    let letter = Letter::signed("msg_1", b"{}");
    let (first, second) = tokio::join!(shop.send(&letter), shop.send(&letter));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [409, 503]);
    let conflict = if first.status == 409 { first } else { second };
    assert!(conflict.head.contains("retry-after: "), "{conflict:?}");
    assert!(
        matches!(shop.source.status().health, Health::Degraded { .. }),
        "it is told that a request was turned away"
    );
    let taken = shop.take(1).await;
    shop.ack(taken).await;
    assert_eq!(shop.send(&letter).await.status, 200);
}

#[tokio::test]
async fn what_no_queue_takes_is_refused_for_good() {
    let shop = open(10, |hook| hook.body_bytes = 16 * 1024).await;
    let answer = shop.send(&Letter::signed("msg_1", &[b' '; 10_000])).await;
    assert_eq!((answer.status, answer.error().as_str()), (422, "refused"), "{answer:?}");
    assert_eq!(shop.counts().await.1, 0);
}

#[tokio::test]
async fn bodies_in_hand_take_all_places_and_one_more_is_refused_before_it_is_read() {
    let shop = open(100, |hook| hook.concurrency = 2).await;
    let half = Letter::signed("msg_1", b"{ }");
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut stream = shop.connect().await;
        stream.write_all(&half.head()).await.unwrap();
        stream.write_all(b"{").await.unwrap();
        holders.push(stream);
    }
    let refused = async {
        loop {
            let answer = shop.send(&Letter::signed("msg_2", b"{}")).await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    assert!(soon(refused).await.head.contains("retry-after: 1"));
    for mut holder in holders {
        assert_eq!(Answer::read(&rest(&mut holder).await).status, 408);
    }
    assert_eq!(shop.send(&Letter::signed("msg_3", b"{}")).await.status, 200);
}

#[tokio::test]
async fn a_stop_finishes_the_request_in_hand_and_takes_no_other() {
    let shop = open(100, |_| ()).await;
    let letter = Letter::signed("msg_1", b"{ }");
    let mut stream = shop.connect().await;
    stream.write_all(&letter.head()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    // Another request that is answered shows that the first one's beginning was read.
    assert_eq!(shop.send(&Letter::signed("msg_2", b"{}")).await.status, 200);
    shop.stop.stop(false);
    stream.write_all(b" }").await.unwrap();
    assert_eq!(Answer::read(&rest(&mut stream).await).status, 200);
    soon(shop.running).await.unwrap().unwrap();
    assert!(
        TcpStream::connect(shop.address).await.is_err(),
        "nobody listens any more"
    );
    let stats = shop.queue.stats().await.unwrap();
    assert_eq!(stats[0].ready, 2);
}

#[tokio::test]
async fn a_queue_that_ends_with_the_process_is_refused_unless_loss_is_allowed() {
    let (_queue, source, intake) = source(100, false, |_| ());
    let ended = soon(source.run(intake, StopHandle::new().signal())).await.unwrap_err();
    assert!(matches!(ended, SourceError::Fatal(_)));
    let told = ended.to_string();
    assert!(told.contains("allow_loss") && told.contains("sqlite:"), "{told}");
}
