//! mail-order-bot: the composition root. What it consists of is assembled in `bot::module`.

use std::process::ExitCode;

use mail_order_bot::bot::MailOrderBot;

fn main() -> ExitCode {
    plba::App::new("mail-order-bot").module(MailOrderBot).run()
}
