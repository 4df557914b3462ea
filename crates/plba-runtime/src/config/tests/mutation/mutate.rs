//! Files to be changed, and changes: of bytes, of pieces that formats care about, and of whole lines.

use fastrand::Rng;

/// The files by their formats; the order is that of [`SEEDS`].
pub(super) const NAMES: [&str; 3] = ["shop.toml", "shop.yaml", "shop.json"];

pub(super) const SEEDS: [&str; 3] = [TOML, YAML, JSON];

const TOML: &str = "# a shop\n[shop]\nworkers = 5\nname = \"Grüße\" # shown\nratio = 1.5e-3\nopen = false\npace = 'fast'\npause = \"1m 30s\"\n\
password = \"hunter2\"\nreplies = { from = 'a', copies = 1 }\nwords = [\"one\",\n  \"two\", 'three',\n]\nlimits.small = -0\n\
limits.\"very large\" = 1_000_000\n[[shop.rules]]\nsender = \"\"\"\nx\ny\"\"\"\npriority = 0x1F\n[[shop.rules]]\nsender = \"\\u00fc\\n\"\n\
priority = 7\n[shop.any]\ndeep.er = [[1, 2.0], [true]]\n[platform]\nname = 'n'\nlimit = 1.5e3\n";

const YAML: &str = "# a shop\nshop: &b\n  workers: 5\n  name: \"Gr\\u00fc\u{df}e\"  # shown\n  ratio: 1.5e-3\n  open: false\n  pace: fast\n  pause: 1m 30s\n  password: |\n    hunter2\n\
\x20 replies: {from: 'a', copies: 1}\n  words: [one,\n    two, three]\n  limits:\n    small: -0\n    very large: 1000000\n  rules:\n  - &r {sender: x y, priority: 1}\n\
\x20 - *r\n  - sender: >-\n      a b\n      c\n    priority: 0x1F\n  any:\n    deep: [[1, 2.0], ~, 0o17, .5]\nplatform:\n  name: n\n  limit: 1.5\n";

const JSON: &str = "{\"shop\": {\"workers\": 5, \"name\": \"Gr\\u00fc\u{df}e\", \"ratio\": 1.5e-3,\n \"open\": false, \"pace\": \"fast\", \"pause\": \"1m 30s\",\n\
\"password\": \"hunter2\", \"replies\": {\"from\": \"a\", \"copies\": 1},\n \"words\": [\"one\", \"\\ud83e\\udd80\"], \"limits\": {\"small\": -1, \"very large\": 1000000},\n\
\"rules\": [{\"sender\": \"\u{df}\\n\\/\", \"priority\": 1}], \"any\": [[1, 2.0], null]},\n\"platform\": {\"name\": \"n\", \"limit\": 1.5e0}}\n";

const PIECES: [&str; 48] = [
    "[", "]", "{", "}", "\"", "'", "\"\"\"", "'''", "=", ":", "\n", "\r\n", "\r", "  ", "\t", "&a ", "*a ", "*r", "- ",
    "#", " #", "\\", "\0", "\u{FEFF}", "🦀", "\u{85}", "\u{2028}", "1e999", "- - ", "? ", "\\ud800", "\\x41", "!x ",
    "!!str ", "|\n", ">\n", "---\n", "...\n", "%", "@", "`", ",", ".", "_", "0x", "inf", "~", "<<: *b\n",
];

const VALUES: [&str; 20] = [
    "0",
    "-1",
    "+1",
    "007",
    "1_0",
    "4294967296",
    "18446744073709551616",
    "-9223372036854775808",
    "1.",
    ".5",
    "1e3",
    "nan",
    "true",
    "True",
    "yes",
    "null",
    "\"\"",
    "[]",
    "{}",
    "1979-05-27",
];

/// The file of this number.
pub(super) fn file(format: usize, seed: u64, number: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut bytes = SEEDS[format].as_bytes().to_vec();
    for _ in 0..random.usize(1..3) {
        match random.u8(0..10) {
            0 => lines(&mut bytes, &mut random),
            1 => value(&mut bytes, &mut random),
            2 => {
                let end = random.usize(0..=bytes.len());
                bytes.truncate(end);
            }
            _ => small(&mut bytes, &mut random),
        }
    }
    bytes
}

/// A change of four bytes at the most: too few to make the secret part of another key's value.
fn small(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(0..=bytes.len());
    let to = random.usize(at..=bytes.len().min(at + 4));
    let piece = PIECES[random.usize(..PIECES.len())].bytes();
    match random.u8(0..6) {
        0 => drop(bytes.drain(at..to)),
        1 => drop(bytes.splice(at..at, piece)),
        2 => drop(bytes.splice(at..to, piece)),
        3 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
        4 if at < bytes.len() => bytes[at] = random.u8(0x20..0x7F),
        _ => {
            let part = bytes[at..to].to_vec();
            let target = random.usize(0..=bytes.len());
            drop(bytes.splice(target..target, part));
        }
    }
}

/// A word or number becomes another one.
fn value(bytes: &mut Vec<u8>, random: &mut Rng) {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-".contains(byte);
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|at| word(&bytes[*at]) && (*at == 0 || !word(&bytes[*at - 1])))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[random.usize(..starts.len())];
    let length = bytes[start..].iter().take_while(|byte| word(byte)).count();
    let other = VALUES[random.usize(..VALUES.len())];
    drop(bytes.splice(start..start + length, other.bytes()));
}

/// Lines are doubled, dropped, swapped or indented.
fn lines(bytes: &mut Vec<u8>, random: &mut Rng) {
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    if lines.len() < 2 {
        return;
    }
    let (one, other) = (random.usize(..lines.len()), random.usize(..lines.len()));
    match random.u8(0..4) {
        0 => {
            let line = lines[one].clone();
            lines.insert(other, line);
        }
        1 => drop(lines.remove(one)),
        2 => lines.swap(one, other),
        _ => drop(lines[one].splice(0..0, *b"  ")),
    }
    *bytes = lines.concat();
}
