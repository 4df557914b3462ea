//! The journey of an order, from the mailbox to the reply, as one trace.

use serde_json::Value;

use crate::bot::Home;
use crate::signals::fill;

/// The spans of this name, in the queue if one is named.
fn of<'a>(spans: &'a [Value], name: &str, queue: &str) -> Vec<&'a Value> {
    let wanted = |span: &&Value| span["name"] == name && span["attributes"]["queue"] == queue;
    spans.iter().filter(wanted).collect()
}

fn spans(told: &Value) -> Vec<Value> {
    told.as_array().cloned().unwrap_or_default()
}

#[test]
fn each_order_is_one_journey_from_its_intake_to_its_reply() {
    const ORDERS: usize = 3;
    let home = Home::new("journey");
    fill(&home, "inbox", ORDERS, 7);
    let source = ["--set", "mail_order_bot.source=maildir:inbox"];
    let ask = |arguments: &[&str]| spans(&home.ask(&[&source[..], &["traces", "--limit", "1000"], arguments].concat()));
    let mut bot = home.start(&source);
    bot.wait("every reply", || home.replies() == ORDERS);
    bot.wait("every reply's span", || {
        of(&ask(&[]), "task.attempt", "replies").len() == ORDERS
    });

    let all = ask(&[]);
    let intakes = of(&all, "source.intake", "orders");
    assert_eq!(intakes.len(), ORDERS, "{all:#?}");
    for intake in intakes {
        let trace = intake["trace_id"].as_str().unwrap();
        let journey = ask(&["--trace", trace]);
        let attempts = of(&journey, "task.attempt", "orders");
        assert_eq!(attempts.len(), 1, "one order has one journey: {journey:#?}");
        assert_eq!(attempts[0]["parent_id"], intake["span_id"], "{journey:#?}");
        let relayed = of(&journey, "source.intake", "replies");
        assert_eq!(relayed.len(), 1, "{journey:#?}");
        assert_eq!(relayed[0]["parent_id"], attempts[0]["span_id"], "{journey:#?}");
        let replies = of(&journey, "task.attempt", "replies");
        assert_eq!(replies.len(), 1, "{journey:#?}");
        assert_eq!(replies[0]["parent_id"], relayed[0]["span_id"], "{journey:#?}");
    }
    bot.stop();
}
