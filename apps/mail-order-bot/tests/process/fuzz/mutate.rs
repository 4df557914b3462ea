//! Changing samples: by their structure (fields, parts, encoded contents, files of an archive) and by their bytes.

use std::io::{Cursor, Read as _, Write as _};

use fastrand::Rng;
use mail_order_bot::samples::hostile::base64;
use mail_parser::decoders::base64::base64_decode;

/// Longest input; longer ones are tests of the limits, which have their own.
const MAX_INPUT: usize = 2 << 20;

/// What has bitten parsers of mail, tables and numbers.
const WORDS: [&str; 66] = [
    "",
    "0",
    "-0",
    "-1",
    "1e308",
    "1e-400",
    "NaN",
    "inf",
    "99999999999999999999",
    "0.0000000001",
    "1.234.567,89",
    "1,234,567.89",
    "1'000",
    "½",
    "２",
    "٣",
    "0x10",
    "1/0",
    "\u{0}",
    "\u{202e}",
    "\u{feff}",
    "\u{d7ff}",
    "ß",
    "ﬀ",
    "İ",
    "Article;Quantity;Price\r\n",
    "Article\tQty\r\n",
    "sep=;\r\n",
    "ART-001",
    "art-001 ",
    "2 x ART-001\r\n",
    "Total:",
    "pcs",
    "=?utf-8?q?=00=0D=0A?=",
    "=?utf-8?b?",
    "=?utf-7?q?+AAA-?=",
    "=?x?x?x?=",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "--b1\r\n",
    "--b1--",
    "Content-Type: multipart/mixed; boundary=b1\r\n",
    "Content-Type: text/html\r\n",
    "Content-Type: message/rfc822\r\n\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "Content-Transfer-Encoding: quoted-printable\r\n",
    "charset=utf-16",
    "charset=iso-2022-jp",
    "; charset*0*=utf-8''%",
    "From: a@b.example\r\n",
    "Reply-To: <x@y.example>\r\n",
    "<table><tr><td>",
    "</table>",
    "<td colspan=999999999>",
    "<!--",
    "&#0;",
    "&#x110000;",
    "\"",
    "'",
    "(",
    "<",
    ">@",
    "> ",
    "%",
];

/// Words of workbooks.
const XML: [&str; 24] = [
    "r=\"XFD1048576\"",
    "r=\"A0\"",
    "r=\"ZZZZ99999999\"",
    "r=\"\"",
    "t=\"s\"",
    "t=\"b\"",
    "t=\"e\"",
    "t=\"str\"",
    "<v>-1</v>",
    "<v>99999999999999999999</v>",
    "<v>NaN</v>",
    "uniqueCount=\"4294967295\"",
    "<c>",
    "</c>",
    "<row>",
    "</row>",
    "<is><t>",
    "table:number-columns-repeated=\"4294967295\"",
    "table:number-rows-repeated=\"-1\"",
    "<table:table-cell/>",
    "<![CDATA[",
    "<?xml version=\"1.0\" encoding=\"utf-16\"?>",
    "&#x0;",
    "<!DOCTYPE x [<!ENTITY a \"aaaa\">]>",
];

pub(super) struct Mutator {
    seeds: Vec<Vec<u8>>,
}

/// The chance of this input.
pub(super) fn chance(seed: u64, number: u64) -> Rng {
    Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Mutator {
    pub(super) fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds }
    }

    fn seed(&self, random: &mut Rng) -> &[u8] {
        &self.seeds[random.usize(..self.seeds.len())]
    }

    /// A message, changed a few times.
    pub(super) fn message(&self, random: &mut Rng) -> Vec<u8> {
        let mut input = self.seed(random).to_vec();
        for _ in 0..random.usize(1..=6) {
            input = match random.u8(..10) {
                0 => fields(&input, random),
                1 => lines(&input, random),
                2 => self.spliced(&input, random),
                3 => nested(&input, random),
                4 => encoded(&input, random),
                5 | 6 => worded(&input, &WORDS, random),
                7 => repeated(&input, random),
                8 => numbers(&input, random),
                _ => bytes(&input, random),
            };
            input.truncate(MAX_INPUT);
        }
        input
    }

    /// An archive: one of its files is changed, or its bytes are.
    pub(super) fn archive(&self, random: &mut Rng) -> Vec<u8> {
        let seed = self.seed(random);
        if random.u8(..4) == 0 {
            return bytes(seed, random);
        }
        rezipped(seed, random).unwrap_or_else(|| bytes(seed, random))
    }

    fn spliced(&self, input: &[u8], random: &mut Rng) -> Vec<u8> {
        let other = self.seed(random);
        let (from, to) = span(other.len(), random);
        let at = random.usize(..=input.len());
        [&input[..at], &other[from..to], &input[at..]].concat()
    }
}

/// Header fields: one is removed, doubled, moved or given another's value.
fn fields(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let end = input
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(input.len());
    let mut fields: Vec<Vec<u8>> = input[..end]
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    if fields.is_empty() {
        return input.to_vec();
    }
    let (one, other) = (random.usize(..fields.len()), random.usize(..fields.len()));
    match random.u8(..4) {
        0 => drop(fields.remove(one)),
        1 => fields.insert(other, fields[one].clone()),
        2 => fields.swap(one, other),
        _ => {
            let name = fields[one]
                .split(|byte| *byte == b':')
                .next()
                .unwrap_or_default()
                .to_vec();
            let value = fields[other]
                .splitn(2, |byte| *byte == b':')
                .nth(1)
                .unwrap_or(b"\r\n")
                .to_vec();
            fields[one] = [name, b":".to_vec(), value].concat();
        }
    }
    [fields.concat(), input[end..].to_vec()].concat()
}

fn lines(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let (one, other) = (random.usize(..lines.len()), random.usize(..lines.len()));
    match random.u8(..3) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one]),
        _ => lines.swap(one, other),
    }
    lines.concat()
}

/// The whole message as a part of another one.
fn nested(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let kind = [
        "message/rfc822",
        "multipart/mixed; boundary=n",
        "text/html",
        "application/octet-stream",
    ];
    let kind = kind[random.usize(..kind.len())];
    let head = format!(
        "From: n@example.com\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: {kind}\r\n\r\n"
    );
    [head.as_bytes(), input, b"\r\n--o--\r\n"].concat()
}

/// A BASE64 block: decoded, changed, encoded again.
fn encoded(input: &[u8], random: &mut Rng) -> Vec<u8> {
    const MARK: &[u8] = b"base64\r\n\r\n";
    let starts: Vec<usize> = (0..input.len()).filter(|at| input[*at..].starts_with(MARK)).collect();
    let Some(start) = (!starts.is_empty()).then(|| starts[random.usize(..starts.len())] + MARK.len()) else {
        return worded(input, &WORDS, random);
    };
    let block = &input[start..];
    let length = block
        .windows(4)
        .position(|window| window == b"\r\n--")
        .unwrap_or(block.len());
    let content = base64_decode(&block[..length]).unwrap_or_default();
    let changed = match rezipped(&content, random) {
        Some(changed) => changed,
        None => worded(&bytes(&content, random), &WORDS, random),
    };
    [&input[..start], base64(&changed).as_bytes(), &block[length..]].concat()
}

/// One file of an archive, changed; `None` if it is none.
fn rezipped(bytes_of: &[u8], random: &mut Rng) -> Option<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes_of)).ok()?;
    let chosen = random.usize(..archive.len().max(1));
    let mut made = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let entry = archive.by_index(index).ok()?;
        let name = entry.name().ok()?.into_owned();
        let mut content = Vec::new();
        entry.take(MAX_INPUT as u64).read_to_end(&mut content).ok()?;
        if index == chosen {
            for _ in 0..random.usize(1..=4) {
                content = match random.u8(..4) {
                    0 => repeated(&content, random),
                    1 => numbers(&content, random),
                    2 => bytes(&content, random),
                    _ => worded(&content, &XML, random),
                };
                content.truncate(MAX_INPUT);
            }
        }
        made.start_file(name, zip::write::SimpleFileOptions::default()).ok()?;
        made.write_all(&content).ok()?;
    }
    Some(made.finish().ok()?.into_inner())
}

/// A word put in, or in the place of something.
fn worded(input: &[u8], words: &[&str], random: &mut Rng) -> Vec<u8> {
    let word = words[random.usize(..words.len())].as_bytes();
    let (from, mut to) = span(input.len(), random);
    if random.bool() {
        to = from;
    }
    [&input[..from], word, &input[to.min(from + 40)..]].concat()
}

fn repeated(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let (from, to) = span(input.len(), random);
    let to = to.min(from + 200);
    let times = 1 << random.usize(..10);
    [&input[..from], &input[from..to].repeat(times), &input[to..]].concat()
}

/// A number in it becomes another one.
fn numbers(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
    if digits.is_empty() {
        return bytes(input, random);
    }
    let from = digits[random.usize(..digits.len())];
    let length = input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let word = WORDS[random.usize(1..16)].as_bytes();
    [&input[..from], word, &input[from + length..]].concat()
}

fn bytes(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut changed = input.to_vec();
    if changed.is_empty() {
        return vec![random.u8(..)];
    }
    for _ in 0..random.usize(1..=8) {
        let at = random.usize(..changed.len());
        match random.u8(..4) {
            0 => changed[at] ^= 1 << random.u8(..8),
            1 => changed[at] = random.u8(..),
            2 => changed.insert(at, random.u8(..)),
            _ if changed.len() > 1 => drop(changed.remove(at)),
            _ => {}
        }
    }
    if random.u8(..8) == 0 {
        changed.truncate(random.usize(..changed.len()));
    }
    changed
}

fn span(length: usize, random: &mut Rng) -> (usize, usize) {
    let (one, other) = (random.usize(..=length), random.usize(..=length));
    (one.min(other), one.max(other))
}
