//! Mail loops through the real program (RFC 3834): two bots that answer each other, and a robot that hides what it is.

use std::fs;

use crate::bot::{Bot, Home, count};

/// Lays a message into a Maildir as a mail server would.
fn deliver(inbox: &std::path::Path, name: &str, raw: &str) {
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(inbox.join(part)).unwrap();
    }
    fs::write(inbox.join("tmp").join(name), raw).unwrap();
    fs::rename(inbox.join("tmp").join(name), inbox.join("new").join(name)).unwrap();
}

fn order(from: &str, number: usize) -> String {
    format!(
        "From: {from}\r\nTo: shop@one.example\r\nSubject: Order\r\nMessage-ID: <{number}@robot.example>\r\n\r\n2 x ART-001\r\n"
    )
}

fn start(home: &Home, inbox: &std::path::Path, replies: &std::path::Path, address: &str, most: usize) -> Bot {
    let settings = [
        format!("mail_order_bot.source=maildir:{}", inbox.display()),
        format!("mail_order_bot.replies=maildir:{}", replies.display()),
        format!("mail_order_bot.desk.replies.from=Shop <{address}>"),
        format!("mail_order_bot.desk.replies.max_per_hour={most}"),
        "mail_order_bot.desk.replies.answer_unrecognised=true".to_owned(),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    home.start(&arguments)
}

#[test]
fn failure_76_two_bots_that_answer_each_other_are_done_after_one_answer() {
    let (one, other) = (Home::new("loop-one"), Home::new("loop-other"));
    // What one of them sends is what the other one gets.
    let (here, there) = (one.join("mail"), other.join("mail"));
    deliver(&here, "first", &order("shop@other.example", 1));
    let mut first = start(&one, &here, &there, "shop@one.example", 20);
    let mut second = start(&other, &there, &here, "shop@other.example", 20);
    let seen = |path: &std::path::Path| count(&path.join("cur"));
    first.wait("the order read", || seen(&here) == 1);
    second.wait("the answer read", || seen(&there) == 1);
    // Both have read everything there is, and each tells when it has begun to stop that nothing is in hand.
    second.stop();
    first.stop();
    assert_eq!(
        (count(&here.join("new")), count(&there.join("new"))),
        (0, 0),
        "nobody wrote again"
    );
    assert_eq!((seen(&here), seen(&there)), (1, 1));
    assert_eq!((one.orders(&[]).len(), other.orders(&[]).len()), (1, 0));
}

#[test]
fn failure_76_a_robot_that_hides_what_it_is_gets_no_more_answers_than_the_cap() {
    const CAP: usize = 5;
    let home = Home::new("loop-robot");
    let (inbox, outbox) = (home.join("inbox"), home.join("replies"));
    deliver(&inbox, "0", &order("robot@robot.example", 0));
    let mut bot = start(&home, &inbox, &outbox, "shop@one.example", CAP);
    let mut sent = 1;
    while sent < 3 * CAP {
        bot.wait("the order read", || count(&inbox.join("cur")) == sent);
        deliver(&inbox, &sent.to_string(), &order("robot@robot.example", sent));
        sent += 1;
    }
    bot.wait("every order read", || count(&inbox.join("cur")) == sent);
    bot.wait("all answers that there are", || count(&outbox.join("new")) == CAP);
    let orders = home.orders(&[]);
    assert_eq!(orders.len(), sent, "each order is stored");
    let withheld = orders
        .iter()
        .filter(|order| order["reply_withheld"].to_string().contains("within the hour"));
    assert_eq!(withheld.count(), sent - CAP, "and says why it was not answered");
    bot.stop();
    assert_eq!(count(&outbox.join("new")), CAP);
}
