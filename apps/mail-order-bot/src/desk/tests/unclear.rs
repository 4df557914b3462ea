//! Mails that may be orders or changes of orders, and are not understood.

use super::{Shop, now, options};
use crate::desk::Processed;
use crate::domain::{OrderId, OrderState};
use crate::store::ReviewReason;

#[test]
fn what_may_be_an_order_and_is_not_understood_waits_for_a_person() {
    let shop = Shop::open("unclear", &options());
    let prose = "From: v@thee.example\r\nMessage-ID: <1@thee>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
                 Graag bestellen wij 3 dozen ART-001 en 2,5 kg ART-007. Verder nog een half dozijn theekopjes (ART-011).\r\n";
    let Processed::Review {
        review: Some(id),
        reason: ReviewReason::Unclear,
        detail,
    } = shop.process(prose.as_bytes())
    else {
        panic!("not on the review list")
    };
    assert!(detail.contains("3 dozen ART-001"), "{detail}");
    let refused = shop.desk.accept_review(id, None, now()).unwrap_err();
    assert!(
        refused.to_string().contains(&format!("review reject {id}")),
        "{refused}"
    );
    // Too much to be searched is not the same as nothing.
    let long = format!(
        "From: v@thee.example\r\nMessage-ID: <2@thee>\r\n\r\n{}",
        "la la ".repeat(1 << 20)
    );
    let long = shop.process(long.as_bytes());
    assert!(
        matches!(&long, Processed::Review { reason: ReviewReason::Unclear, detail, .. } if detail.contains("too large")),
        "{long:?}"
    );
    // A line that is understood is an order; the others are told of in its answer, once.
    let mixed = "From: v@thee.example\r\nMessage-ID: <3@thee>\r\n\r\n2 x ART-001\r\nor 5e1 x ART-002\r\n";
    let Processed::Stored { order_id, .. } = shop.process(mixed.as_bytes()) else {
        panic!("no order")
    };
    let order = shop.desk.store().reads().order(order_id).unwrap().unwrap();
    assert_eq!(order.notes.len(), 1, "{:?}", order.notes);
}

#[test]
fn a_change_that_is_not_understood_changes_nothing_and_waits_for_a_person() {
    let shop = Shop::open("unclear-changes", &options());
    let answer = |id: u32, text: &str| {
        let raw = format!(
            "From: a@shopper.example\r\nSubject: Re: order\r\nMessage-ID: <{id}@shopper>\r\nIn-Reply-To: <1@shopper>\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        );
        shop.process(raw.as_bytes())
    };
    let first =
        "From: a@shopper.example\r\nSubject: order\r\nMessage-ID: <1@shopper>\r\n\r\n12 x ART-001\r\n2 x ART-007\r\n";
    assert!(matches!(shop.process(first.as_bytes()), Processed::Stored { .. }));
    for (id, text) in [
        (
            2,
            "Bitte ändern Sie die Bestellung: statt 12 nur 6 Stück ART-001 und zusätzlich 3 x ART-012.",
        ),
        (3, "Please change the order: it should come on Friday."),
        (4, "Bitte stornieren Sie ART-007."),
        (5, "Please cancel the tea pot 1 l."),
    ] {
        let processed = answer(id, text);
        let unclear = matches!(
            processed,
            Processed::Review {
                reason: ReviewReason::Unclear,
                ..
            }
        );
        assert!(unclear, "{text}\n{processed:?}");
    }
    let order = shop.desk.store().reads().order(OrderId(1)).unwrap().unwrap();
    assert_eq!((order.version, order.state), (1, OrderState::Open));
    let all = answer(6, "Please cancel order 1 of 22 November, we have no room.");
    assert!(
        matches!(
            all,
            Processed::Changed {
                state: OrderState::Cancelled,
                ..
            }
        ),
        "{all:?}"
    );
}
