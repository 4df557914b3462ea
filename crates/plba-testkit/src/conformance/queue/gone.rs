//! Processes of this machine that have certainly ended: what they held is ready again without waiting for their leases.
//! Whoever may still be alive loses nothing, whatever its state.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plba_tasks::queue::presence::Presence;
use plba_tasks::queue::{ConsumerId, Delivery, EndError, How, Incarnation, QueueRules};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::time::{Instant, timeout};

use super::super::cases;
use super::handles::Two;
use super::ids;

/// Longer than two looks for those who are gone, on a busy machine.
const LOOKS: Duration = Duration::from_millis(2_500);

/// A process in whose name tasks are taken. Dropped, it is gone.
struct Other {
    child: Child,
    consumer: ConsumerId,
}

impl Other {
    fn start() -> Self {
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let incarnation = Incarnation::of_process(child.id(), 3);
        assert!(
            incarnation.presence.is_some(),
            "this machine tells nothing of its processes"
        );
        Self {
            child,
            consumer: ConsumerId::new(incarnation, "conformance"),
        }
    }

    fn stop(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
    }

    async fn take(&self, two: &Two, max: usize) -> Vec<Delivery> {
        take_as(two, &self.consumer, max).await
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Also of one that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn take_as(two: &Two, consumer: &ConsumerId, max: usize) -> Vec<Delivery> {
    take_within(two, consumer, max, LOOKS).await
}

async fn take_within(two: &Two, consumer: &ConsumerId, max: usize, limit: Duration) -> Vec<Delivery> {
    let taken = timeout(limit, two.there.consume(&two.here.name, consumer, max)).await;
    taken.expect("something is ready").expect("consuming works")
}

/// Takes what comes without any of the queue's time being moved, and so before any lease runs out.
async fn comes_again(two: &Two, max: usize) -> Vec<Delivery> {
    let began = Instant::now();
    let taken = timeout(
        LOOKS * 4,
        two.here.queue.consume(&two.here.name, &two.here.consumer, max),
    )
    .await;
    let taken = taken
        .expect("what a process held that is gone is ready again")
        .expect("consuming works");
    assert!(
        began.elapsed() < two.here.lease(),
        "the lease has run out; give this suite a longer one"
    );
    taken
}

/// Nothing comes, though it is looked for those who are gone.
async fn nothing_comes(two: &Two) {
    let taken = timeout(LOOKS, two.here.queue.consume(&two.here.name, &two.here.consumer, 10)).await;
    assert!(taken.is_err(), "its holder may be alive, and yet this came: {taken:?}");
    assert_eq!(two.here.queue.recover(None, 100).await.unwrap().recovered, 0);
}

/// A consumer whose presence is this process's, changed.
fn changed(change: impl FnOnce(&str) -> String) -> ConsumerId {
    let own = Presence::of_this_process().unwrap().to_string();
    let mut incarnation = Incarnation::of_this_process(4);
    incarnation.presence = Some(Presence::parse(&change(&own)).unwrap());
    ConsumerId::new(incarnation, "conformance")
}

cases! { Two;
    async fn what_a_process_held_that_is_gone_is_ready_at_once_and_counts_as_a_crash(two) {
        two.here.publish(&["a"]).await;
        let other = Other::start();
        let lost = other.take(&two, 1).await.remove(0);
        drop(other);
        let taken = comes_again(&two, 10).await.remove(0);
        assert_eq!((taken.task.id.as_str(), taken.deliveries, taken.attempt), ("a", 2, 1));
        let late = two.there.end_one(lost.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)));
        let history = &taken.task.history;
        assert_eq!(history.len(), 1, "{history:?}");
        two.here.ack(taken).await;
        assert_eq!(two.here.stats().await.leased, 0);
    }

    async fn a_recovery_pass_finds_what_a_process_held_that_is_gone(two) {
        two.here.publish(&["a", "b"]).await;
        let other = Other::start();
        other.take(&two, 2).await;
        drop(other);
        let began = Instant::now();
        while two.here.stats().await.leased > 0 {
            two.here.queue.recover(None, 100).await.unwrap();
            assert!(began.elapsed() < LOOKS * 4, "{:?}", two.here.stats().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(two.here.stats().await.ready, 2);
    }

    async fn a_consumer_that_waits_gets_what_a_process_holds_when_that_one_goes(two) {
        two.here.publish(&["a"]).await;
        let other = Other::start();
        other.take(&two, 1).await;
        let waits = two.here.waiting(1);
        nothing_comes(&two).await;
        drop(other);
        let taken = timeout(LOOKS * 4, waits).await.expect("it is woken").unwrap();
        assert_eq!(ids(&taken), ["a"]);
    }

    async fn what_a_process_held_that_is_gone_comes_again_in_company(two) {
        two.here.publish(&["a", "b"]).await;
        let other = Other::start();
        other.take(&two, 2).await;
        drop(other);
        let mut taken = ids(&comes_again(&two, 10).await);
        taken.sort_unstable();
        assert_eq!(taken, ["a", "b"]);
    }

    async fn what_two_processes_held_that_are_gone_is_handed_out_alone(two) {
        two.here.publish(&["a", "b"]).await;
        for _ in 0..2 {
            let (other, mut taken) = (Other::start(), 0);
            while taken < 2 {
                taken += take_within(&two, &other.consumer, 2, LOOKS * 4).await.len();
            }
        }
        let mut all = Vec::new();
        for _ in 0..2 {
            let taken = comes_again(&two, 10).await;
            assert_eq!(taken.len(), 1, "a suspect comes alone");
            all.extend(ids(&taken));
            two.here.ack(taken.into_iter().next().unwrap()).await;
        }
        all.sort_unstable();
        assert_eq!(all, ["a", "b"]);
    }

    async fn a_task_that_ends_one_process_after_the_other_is_dead(two) {
        two.here.publish(&["a"]).await;
        for _ in 0..two.here.maximum_crashes {
            let other = Other::start();
            assert_eq!(ids(&take_within(&two, &other.consumer, 1, LOOKS * 4).await), ["a"]);
        }
        let began = Instant::now();
        while two.here.dead().await != ["a"] {
            two.here.queue.recover(None, 100).await.unwrap();
            assert!(began.elapsed() < LOOKS * 4);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn all_that_a_process_held_comes_again(two) {
        let count = two.here.capacity.unwrap_or(200).min(200);
        two.here.publish_all((0..count).map(|number| two.here.task(&number.to_string())).collect()).await;
        let other = Other::start();
        let mut held = 0;
        while held < count {
            held += other.take(&two, count.div_ceil(3)).await.len();
        }
        drop(other);
        let mut all = Vec::new();
        for _ in 0..count {
            if all.len() == count {
                break;
            }
            for taken in comes_again(&two, 10).await {
                all.push(taken.task.id.to_string());
                two.here.ack(taken).await;
            }
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    async fn limits_and_lines_go_on_when_a_process_is_gone(two) {
        let rules = QueueRules { concurrency: Some(1), key_concurrency: Some(1), ..QueueRules::default() };
        two.here.govern(rules.clone());
        two.there.govern(&two.here.name, rules);
        two.here.publish_all(["a", "b"].map(|id| two.here.task(id).in_order_of("customer")).into()).await;
        let other = Other::start();
        assert_eq!(ids(&other.take(&two, 10).await), ["a"]);
        drop(other);
        for id in ["a", "b"] {
            let taken = comes_again(&two, 10).await;
            assert_eq!(ids(&taken), [id], "the line keeps its order");
            two.here.ack(taken.into_iter().next().unwrap()).await;
        }
    }

    async fn a_process_that_is_stopped_keeps_what_it_holds(two) {
        two.here.publish(&["a"]).await;
        let other = Other::start();
        let held = other.take(&two, 1).await.remove(0);
        other.stop();
        nothing_comes(&two).await;
        two.there.end_one(held.token, How::ack(Vec::new())).await.expect("its lease holds");
    }

    async fn of_two_processes_only_the_one_that_is_gone_loses_what_it_holds(two) {
        two.here.publish(&["a", "b"]).await;
        let (gone, alive) = (Other::start(), Other::start());
        gone.take(&two, 1).await;
        let held = alive.take(&two, 1).await.remove(0);
        drop(gone);
        assert_eq!(ids(&comes_again(&two, 10).await), ["a"]);
        two.there.end_one(held.token, How::ack(Vec::new())).await.expect("its lease holds");
    }

    async fn a_process_number_that_is_used_again_is_told_by_its_start(two) {
        two.here.publish(&["a"]).await;
        let earlier = changed(|own| {
            let (pid, rest) = own.split_once('.').unwrap();
            let (start, place) = rest.split_once('.').unwrap();
            format!("{pid}.{}.{place}", start.parse::<u64>().unwrap() - 1)
        });
        take_as(&two, &earlier, 1).await;
        assert_eq!(ids(&comes_again(&two, 1).await), ["a"]);
    }

    async fn another_machines_process_is_judged_by_its_lease_alone(two) {
        two.here.publish(&["a"]).await;
        // A number that no process here has, on a machine that is not this one.
        let elsewhere = changed(|own| {
            let place = own.splitn(3, '.').nth(2).unwrap();
            format!("4194303.1.{}", place.replace(|digit: char| digit.is_ascii_hexdigit(), "0"))
        });
        take_as(&two, &elsewhere, 1).await;
        nothing_comes(&two).await;
        two.here.pass(two.here.lease() * 11 / 10).await;
        two.here.this("a").await;
    }

    async fn a_holder_that_tells_nothing_of_its_process_is_judged_by_its_lease_alone(two) {
        two.here.publish(&["a"]).await;
        take_as(&two, &two.consumer, 1).await;
        nothing_comes(&two).await;
        two.here.pass(two.here.lease() * 11 / 10).await;
        two.here.this("a").await;
    }
}
