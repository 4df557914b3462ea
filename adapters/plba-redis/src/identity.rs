//! The names of consumers in groups: whose they are, how long their leases last, and by what this machine can tell that
//! the process behind one is gone.

use std::time::Duration;

use plba_tasks::queue::{ConsumerId, Presence};

/// `lease|host:pid:epoch|presence|worker`: the lease in milliseconds; the [`Presence`] is `-` where there is none.
pub(crate) fn consumer_name(consumer: &ConsumerId, lease: Duration) -> String {
    let incarnation = &consumer.incarnation;
    let presence = incarnation.presence.as_ref().map(Presence::to_string);
    format!(
        "{}|{}:{}:{:016x}|{}|{}",
        lease.as_millis(),
        incarnation.host,
        incarnation.pid,
        incarnation.epoch,
        presence.as_deref().unwrap_or("-"),
        consumer.worker
    )
}

/// The consumer as people know it: `worker (host:pid:epoch)`.
pub(crate) fn for_people(name: &str) -> String {
    let mut parts = name.splitn(4, '|').skip(1);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(incarnation), _, Some(worker)) => format!("{worker} ({incarnation})"),
        _ => name.to_owned(),
    }
}

/// The presence in a name, as text; empty in a name that is none of ours.
pub(crate) fn presence_of(name: &str) -> &str {
    name.split('|').nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use plba_tasks::queue::Incarnation;

    use super::*;

    fn name(incarnation: Incarnation) -> String {
        consumer_name(&ConsumerId::new(incarnation, "orders|1"), Duration::from_millis(1500))
    }

    #[test]
    fn a_name_tells_lease_and_holder_and_its_process() {
        let own = Incarnation::of_this_process(7);
        let text = name(own.clone());
        assert!(text.starts_with("1500|"), "{text}");
        assert!(for_people(&text).starts_with("orders|1 ("), "{text}");
        assert!(for_people(&text).ends_with(":0000000000000007)"), "{text}");
        assert_eq!(Presence::parse(presence_of(&text)), own.presence);
        assert!(own.presence.is_some());
    }

    #[test]
    fn where_nothing_is_told_of_the_process_nothing_is_read() {
        let mut silent = Incarnation::of_this_process(7);
        silent.presence = None;
        for name in [name(silent), "redis-cli".to_owned(), String::new()] {
            assert_eq!(Presence::parse(presence_of(&name)), None, "{name}");
        }
    }
}
