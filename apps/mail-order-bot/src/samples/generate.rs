//! Order mails in any number, for end-to-end tests and benches. The same seed gives the same mails, byte for byte; every
//! mail has its own sender and Message-ID, so that neither the duplicate check nor the rate limit for replies applies.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, MultiPart, SinglePart};

use super::workbook::{Cell, bytes};
use crate::domain::{Article, Catalogue, OrderStatus};

/// Where a generated mail has its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines of text.
    Text,
    /// An HTML table.
    Html,
    /// A CSV attachment.
    Csv,
    /// An XLSX attachment.
    Xlsx,
}

/// A generated order mail, and what must become of it with the sample catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderMail {
    /// Its Message-ID without brackets.
    pub message_id: String,
    /// The sender's address.
    pub sender: String,
    /// Where its lines are.
    pub form: Form,
    /// How many lines it has.
    pub lines: usize,
    /// The outcome it must have.
    pub status: OrderStatus,
    /// The raw message.
    pub raw: Vec<u8>,
}

/// The catalogue or a mail could not be made; not expected for the embedded catalogue.
#[derive(Debug, thiserror::Error)]
#[error("order mail cannot be generated: {0}")]
pub struct GenerateError(String);

/// `count` distinct order mails against the sample catalogue; one in ten names an unknown article. Message `n` depends
/// only on `seed` and `n`.
///
/// # Errors
/// [`GenerateError`]; not expected.
pub fn order_mails(
    count: usize,
    seed: u64,
) -> Result<impl Iterator<Item = Result<OrderMail, GenerateError>>, GenerateError> {
    let catalogue = Catalogue::open("embedded:").map_err(|error| GenerateError(error.to_string()))?;
    let articles: Vec<Article> = catalogue
        .articles()
        .iter()
        .filter(|article| article.available && !article.divisible())
        .cloned()
        .collect();
    Ok((0..count).map(move |number| order_mail(&articles, number, seed)))
}

struct Line<'a> {
    article: &'a str,
    name: &'a str,
    quantity: u64,
    price: Option<String>,
}

fn order_mail(articles: &[Article], number: usize, seed: u64) -> Result<OrderMail, GenerateError> {
    let mut random = Random(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let count = 1 + random.below(5) as usize;
    let mut lines: Vec<Line<'_>> = (0..count)
        .map(|_| {
            let article = &articles[random.below(articles.len() as u64) as usize];
            let price = (random.below(2) == 0).then(|| article.price.to_string());
            Line {
                article: &article.number,
                name: &article.name,
                quantity: 2 + random.below(40),
                price,
            }
        })
        .collect();
    let mut status = OrderStatus::Accepted;
    if number % 10 == 9 {
        let spoiled = random.below(count as u64) as usize;
        lines[spoiled].article = "NONE-404";
        lines[spoiled].name = "";
        status = if count == 1 {
            OrderStatus::Rejected
        } else {
            OrderStatus::PartlyAccepted
        };
    }
    let form = [Form::Text, Form::Html, Form::Csv, Form::Xlsx][number % 4];
    let sender = format!("buyer-{number}@customers.example");
    let message_id = format!("order-{seed:x}-{number}@customers.example");
    let raw = raw(form, &lines, number, &sender, &message_id)?;
    Ok(OrderMail {
        message_id,
        sender,
        form,
        lines: count,
        status,
        raw,
    })
}

fn raw(
    form: Form,
    lines: &[Line<'_>],
    number: usize,
    sender: &str,
    message_id: &str,
) -> Result<Vec<u8>, GenerateError> {
    fn failed(error: impl std::fmt::Display) -> GenerateError {
        GenerateError(error.to_string())
    }
    let letter = || {
        SinglePart::plain(format!(
            "Hello,\n\nplease see the attachment of order {number}.\n\nRegards\n"
        ))
    };
    let boundary = format!("generated-{number}");
    let mixed = || MultiPart::mixed().boundary(&boundary).singlepart(letter());
    let content = match form {
        Form::Text => MultiPart::mixed()
            .boundary(&boundary)
            .singlepart(SinglePart::plain(text(lines))),
        Form::Html => MultiPart::alternative()
            .boundary(&boundary)
            .singlepart(SinglePart::plain("This order is written in HTML.".to_owned()))
            .singlepart(SinglePart::html(html(lines))),
        Form::Csv => {
            let kind = ContentType::parse("text/csv; charset=utf-8").map_err(failed)?;
            mixed().singlepart(Attachment::new(format!("order-{number}.csv")).body(csv(lines), kind))
        }
        Form::Xlsx => {
            let kind = ContentType::parse("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
            let book = bytes(&cells(lines)).map_err(failed)?;
            mixed().singlepart(Attachment::new(format!("order-{number}.xlsx")).body(book, kind.map_err(failed)?))
        }
    };
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_000_000 + number as u64);
    let message = Message::builder()
        .from(format!("Buyer {number} <{sender}>").parse().map_err(failed)?)
        .to("orders@mail-order-bot.example".parse().map_err(failed)?)
        .subject(format!("Order {number}"))
        .date(written)
        .message_id(Some(format!("<{message_id}>")))
        .multipart(content)
        .map_err(failed)?;
    Ok(message.formatted())
}

fn text(lines: &[Line<'_>]) -> String {
    let mut text = String::from("Hello,\n\nplease send us:\n\n");
    for line in lines {
        let price = line
            .price
            .as_ref()
            .map(|price| format!(" @ {price} EUR"))
            .unwrap_or_default();
        // Writing to a String can't fail.
        _ = writeln!(text, "{} x {}{price}", line.quantity, line.article);
    }
    text + "\nRegards\n"
}

fn html(lines: &[Line<'_>]) -> String {
    let mut html = String::from("<table><tr><th>Article</th><th>Description</th><th>Qty</th><th>Unit price</th></tr>");
    for line in lines {
        let price = line.price.as_deref().unwrap_or_default();
        let cells = [line.article, line.name, &line.quantity.to_string(), price].join("</td><td>");
        _ = writeln!(html, "<tr><td>{cells}</td></tr>");
    }
    html + "</table>"
}

fn csv(lines: &[Line<'_>]) -> String {
    let mut csv = String::from("Article;Quantity;Price\r\n");
    for line in lines {
        let price = line
            .price
            .as_ref()
            .map(|price| price.replace('.', ","))
            .unwrap_or_default();
        _ = write!(csv, "{};{};{price}\r\n", line.article, line.quantity);
    }
    csv
}

fn cells(lines: &[Line<'_>]) -> Vec<Vec<Cell>> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let headings = vec![text("Article"), text("Description"), text("Quantity"), text("Price")];
    let row = |line: &Line<'_>| {
        let price = line.price.as_ref().and_then(|price| price.parse().ok());
        let price = price.map_or_else(|| text(""), Cell::Number);
        vec![
            text(line.article),
            text(line.name),
            Cell::Number(line.quantity as f64),
            price,
        ]
    };
    std::iter::once(headings).chain(lines.iter().map(row)).collect()
}

/// SplitMix64: small, seeded, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mails() {
        let mails = |seed| -> Vec<OrderMail> { order_mails(40, seed).unwrap().map(Result::unwrap).collect() };
        assert_eq!(mails(7), mails(7));
        assert_ne!(mails(7), mails(8));
    }
}
