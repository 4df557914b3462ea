//! mail-order-bot: the composition root. What it consists of is assembled in `bot::module`.

use std::process::ExitCode;

use mail_order_bot::bot::MailOrderBot;
use mail_order_bot::reading::workbook::child;

fn main() -> ExitCode {
    // The bot starts itself again to read a workbook.
    if let Some(ended) = child::run_if_asked() {
        return ended;
    }
    plba::App::new("mail-order-bot").module(MailOrderBot).run()
}
