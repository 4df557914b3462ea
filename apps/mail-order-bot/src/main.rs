//! mail-order-bot.

fn main() {}
