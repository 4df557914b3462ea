//! What became of every mail.

use super::*;
use crate::store::{MailFilter, ReviewReason};

pub(super) fn every_mail_is_listed_with_what_became_of_it(store: &OrderStore) {
    let order = record(store, "m1", NOW, 1000);
    let withhold = |_| ReplyPlan::Withhold(String::new());
    store
        .record_not_an_order(&message("m2", NOW), "it is a newsletter", "jane@example.com", withhold)
        .unwrap();
    store
        .record_review(
            &message("m3", NOW),
            ReviewReason::UnknownSender,
            "nobody knows them",
            "jane@example.com",
        )
        .unwrap();
    let listed = |filter: &MailFilter| -> Vec<String> {
        let mails = store.reads().seen_mails(filter).unwrap();
        mails.into_iter().map(|mail| mail.message_id).collect()
    };
    assert_eq!(listed(&MailFilter::default()), ["m3", "m2", "m1"]);
    let ignored = MailFilter {
        ignored: true,
        ..MailFilter::default()
    };
    assert_eq!(listed(&ignored), ["m2"]);
    let all = store.reads().seen_mails(&MailFilter::default()).unwrap();
    assert_eq!((all[2].order, all[2].not_an_order.as_deref()), (Some(order.id), None));
    assert!(all[0].review.is_some() && all[0].order.is_none(), "{:?}", all[0]);
    assert_eq!(all[1].not_an_order.as_deref(), Some("it is a newsletter"));
    let page = MailFilter {
        before: Some(all[0].id),
        text: Some("M2".to_owned()),
        limit: 1,
        ..MailFilter::default()
    };
    assert_eq!(listed(&page), ["m2"]);
    let (mail, raw) = store.reads().seen_mail(all[1].id).unwrap().unwrap();
    assert_eq!((mail, raw.as_deref()), (all[1].clone(), Some(&b"raw m2"[..])));
    assert_eq!(store.reads().seen_mail(99).unwrap(), None);
}
